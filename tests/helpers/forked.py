"""A `mgap` for shell scripts that starts in milliseconds: forked from a server that has imported torch.

python forked.py serve SOCKET        the server, until it is killed
python forked.py call SOCKET ...     hands its words, streams, folder and environment over, passes signals
                                     on, and ends as the program that the server forked for it ends
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


def call(path: str, words: list[str]) -> None:
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    received: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: received.append(number))
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([words, str(Path.cwd()), dict(os.environ)]).encode() + b"\n")
    answers = server.makefile()
    process = int(answers.readline())
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: os.kill(process, number))
    for number in received:
        os.kill(process, number)
    code = int(answers.readline())
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(path: str) -> None:
    import pausing
    import torch
    from preloaded import MODULES

    from mgap_cli.__main__ import main

    for name in MODULES:
        importlib.import_module(name)

    torch.set_num_threads(1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        client, _ = listener.accept()
        if os.fork():
            client.close()
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _, streams, _, _ = socket.recv_fds(client, 1, 3)
        words, folder, environment = json.loads(client.makefile().readline())
        process = os.fork()
        if process:
            client.sendall(b"%d\n" % process)
            status = os.waitpid(process, 0)[1]
            client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        # New streams, as a new process has them: the old ones remember the files that were there before.
        for number, name in ((1, "stdout"), (2, "stderr")):
            fresh = open(number, "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, fresh)
            setattr(sys, f"__{name}__", fresh)
        client.close()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        pausing.install()
        sys.argv = ["mgap", *words]
        main()


if __name__ == "__main__":
    role, socket_path, *rest = sys.argv[1:]
    serve(socket_path) if role == "serve" else call(socket_path, rest)

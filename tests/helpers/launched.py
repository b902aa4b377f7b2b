"""Two real processes under torchrun, whose results are compared with those of one process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from helpers.program import HANG, ROOT

# Runs several commands of mgap in one process, with frozen statistics of batch norm.
FROZEN = """
import shlex, sys
from helpers import pausing
from helpers.frozen import with_frozen_batch_norm
from mgap_cli.__main__ import main
from mgap_cli.training.task import Task

Task.train = with_frozen_batch_norm(Task.train)
pausing.install()
for line in open(sys.argv[1]).read().splitlines():
    sys.argv = ["mgap", *shlex.split(line)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
PATH = f"{ROOT}:{ROOT / 'tests'}"
RECIPE = ["--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1", "--shutdown-timeout", "60"]


class Launched:
    """torchrun with two processes."""

    def __init__(
        self,
        folder: Path,
        *args: object,
        program: tuple[object, ...] = ("-m", "mgap_cli"),
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.out, self.err = folder / "torchrun.out", folder / "torchrun.err"
        words = ["--standalone", "--nproc-per-node", "2", *RECIPE, *program, *args]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MGAP_")}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *map(str, words)],
                stdout=out,
                stderr=err,
                env={**environment, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1", **(env or {})},
            )

    def wait(self) -> int:
        return self.process.wait(HANG)

    def workers(self) -> list[int]:
        """Return the processes' ids, in the order in which they were started."""
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        pids = map(int, listing.split())
        return [p for p in pids if b"mgap_cli" in Path(f"/proc/{p}/cmdline").read_bytes()]

    def until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + HANG
        while not happened():
            assert self.process.poll() is None and time.monotonic() < deadline, self.err.read_text()
            time.sleep(0.005)

    def messages(self) -> list[str]:
        """Return the lines with which mgap reports errors; fail if it printed a traceback."""
        text = self.err.read_text()
        assert not re.search(r'File "[^"]*mgap_cli', text) and "internal error" not in text, text
        return [line for line in text.splitlines() if line.startswith("error: ")]


def script(folder: Path, lines: list[list[object]]) -> tuple[Path, Path]:
    program, plan = folder / "frozen.py", folder / "lines.txt"
    program.write_text(FROZEN)
    plan.write_text("\n".join(" ".join(map(str, line)) for line in lines))
    return program, plan

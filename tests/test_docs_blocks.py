"""The examples in the README and the pages run as printed, with small settings and without a real Slurm."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.pages import PAGES
from helpers.program import (
    HANG,
    ROOT,
    TINY,
    TINY_DATA,
    metrics,
    mgap,
    sets,
    status,
    store,  # noqa: F401  (fixture)
)

BLOCKS = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in PAGES.items()
    for number, block in enumerate(re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL), 1)
]
SEEDS, BATCH = (
    next(b.values[0] for b in BLOCKS if word in b.values[0]) for word in ("for seed in", "#SBATCH")
)
STAND_INS = {
    # Slurm's USR1@120 goes to the step and not to the batch script; here, in the third epoch.
    "srun": """#!/bin/bash
"$@" & step=$!
if [ ! -e "$SLURM_TEST/warned-$SLURM_JOB_ID" ]; then
  until [ -e "$PAUSES/cremad-$SLURM_ARRAY_TASK_ID" ] || ! kill -0 "$step"; do sleep 0.01; done
  touch "$SLURM_TEST/warned-$SLURM_JOB_ID"
  kill -USR1 "$step"
fi
wait "$step"
""",
    "scontrol": """#!/bin/bash
[ "$1" = requeue ] && echo "$2" >> "$SLURM_TEST/requeued"
""",
    # Jobs 100, 101, ... for the array's tasks, one after the other, each again for as long as it is requeued.
    "sbatch": r"""#!/bin/bash
IFS=- read -r first last <<< "$(grep -o -- '--array=[0-9]*-[0-9]*' "$1" | cut -d= -f2)"
grep -q '^#SBATCH.*--requeue' "$1" && grep -q '^#SBATCH.*--signal=USR1@' "$1" || exit 1
for task in $(seq "$first" "$last"); do
  export SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=$((100 + task))
  while :; do
    before=$(grep -c "^$SLURM_JOB_ID\$" "$SLURM_TEST/requeued")
    bash "$1" >> "$SLURM_TEST/$SLURM_JOB_ID.out" 2>&1
    echo "$SLURM_JOB_ID $?" >> "$SLURM_TEST/ended"
    [ "$(grep -c "^$SLURM_JOB_ID\$" "$SLURM_TEST/requeued")" -gt "$before" ] || break
  done
done
""",
}


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Iterator[Path]:
    """A folder for PATH with `mgap` and Slurm's commands."""
    folder = tmp_path_factory.mktemp("bin")
    socket, program = folder / "socket", ROOT / "tests" / "helpers" / "forked.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen([sys.executable, program, "serve", socket], env=environment)
    for name, text in STAND_INS.items():
        executable(folder / name, text)
    executable(
        folder / "mgap", f'#!/bin/sh\nexec "{sys.executable}" -S -E "{program}" call "{socket}" "$@"\n'
    )
    while not socket.exists():
        assert server.poll() is None
        time.sleep(0.05)
    yield folder
    server.kill()
    server.wait()


def environment(commands: Path, *words: str, **more: object) -> dict[str, str]:
    """The settings that the pages leave at their defaults, small, as a user would give them."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MGAP_") and k != "WORLD_SIZE"}
    settings = dict(word.split("=") for word in [*TINY, *words])
    settings |= {f"data.{key}": str(value) for key, value in TINY_DATA.items()}
    tiny = {f"MGAP_{key.upper().replace('.', '__')}": value for key, value in settings.items()}
    path = {"PATH": f"{commands}:{os.environ['PATH']}"}
    return {**kept, **tiny, **path, **{k: str(v) for k, v in more.items()}}


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_valid_bash(block):
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


def test_the_loop_over_seeds_continues_after_a_stop(commands, tmp_path):
    pauses = tmp_path / "pauses"
    pauses.mkdir()
    for name in ("digits-0", "baseline"):  # the first run and the baselines do not pause
        (pauses / name).touch()
    env = environment(
        commands,
        *("train.batch_size=128", "warmup.epochs=3", "adapt.epochs=1"),
        PAUSE_AT=f"1:0:{pauses}",
    )
    log = tmp_path / "err"

    def begin() -> subprocess.Popen[str]:
        with log.open("w") as err:
            return subprocess.Popen(
                ["bash", "-c", SEEDS.replace("0 1 2", "0 1")],
                cwd=tmp_path,
                env=env,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                start_new_session=True,
            )

    first = begin()
    second_run = tmp_path / "runs" / "digits-1"
    while not (pauses / second_run.name).exists():
        assert first.poll() is None, log.read_text()
        time.sleep(0.01)
    for stat in Path("/proc").glob(
        "[0-9]*/stat"
    ):  # as a scheduler does: a signal to each of the job's processes
        try:
            name, session = stat.read_text().split("(")[1].split(")")[0], os.getsid(int(stat.parent.name))
        except OSError:
            continue
        if session == first.pid and name != "bash":
            os.kill(int(stat.parent.name), signal.SIGTERM)
    output = first.communicate()[0]
    assert first.returncode == 75, log.read_text()
    assert "stopped by SIGTERM" in log.read_text() and status(second_run)["state"] == "preempted"
    assert output.count("Evaluation on test") == 1 and not (tmp_path / "runs/digits-1/adapt.pt").exists()

    again = begin()
    output = again.communicate()[0]
    assert again.returncode == 0, log.read_text()
    said = log.read_text()
    assert said.count("warmup: already finished") == 1 and said.count("adapt: already finished") == 1
    assert said.count("warmup: continues from epoch") == 1
    assert output.count("Evaluation on test") == 2
    for seed in range(2):
        run = tmp_path / "runs" / f"digits-{seed}"
        assert status(run) == {"state": "done", "stage": "adapt", "epoch": 1, "step": 0}
        assert json.loads((run / "analysis.json").read_text())["schema"] == "mgap.analyze-gap/1"
        assert (run / "gap-warmup.png").stat().st_size > 10_000
        assert [e["epoch"] for e in metrics(run)] == [1, 2, 3]


def test_the_batch_script_is_requeued_and_continues(commands, store, tmp_path):  # noqa: F811
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cremad").symlink_to(store)
    (tmp_path / "requeued").touch()
    script = tmp_path / "seeds.sbatch"
    script.write_text(BATCH.replace("--array=0-4", "--array=0-1"))
    (tmp_path / "pauses").mkdir()
    (tmp_path / "pauses" / "baseline").touch()  # the baselines do not pause
    env = environment(
        commands,
        *("warmup.epochs=5", "adapt.epochs=2"),
        SLURM_TEST=tmp_path,
        PAUSES=tmp_path / "pauses",
        PAUSE_AT=f"2:3:{tmp_path / 'pauses'}",
    )
    done = subprocess.run(
        ["sbatch", script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=HANG
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "requeued").read_text().split() == ["100", "101"]
    assert (tmp_path / "ended").read_text().split("\n") == ["100 75", "100 0", "101 75", "101 0", ""]
    for seed in range(2):
        run, said = tmp_path / "runs" / f"cremad-{seed}", (tmp_path / f"{100 + seed}.out").read_text()
        assert status(run)["state"] == "done" and (run / "evaluate.json").exists()
        assert said.count("stopped by SIGUSR1 at epoch") == said.count("warmup: continues from epoch") == 1
        assert [e["epoch"] for e in metrics(run)] == list(range(1, 6)), "nothing repeated or skipped"


def test_the_example_of_your_own_method_runs_as_printed(store, tmp_path):  # noqa: F811
    code = PAGES["extending"].partition("```python\n")[2].partition("```")[0]
    (tmp_path / "smoothed.py").write_text(code)
    done = mgap(
        *("train", store, "--method", "smoothed.py:Smoothed", "--set", "smoothed.smoothing=0.2"),
        *("-o", tmp_path / "run", *sets(*TINY), "--epochs", "2"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    analysed = mgap("analyze-gap", tmp_path / "run" / "train.pt", *sets("analysis.resamples=9"), cwd=tmp_path)
    assert analysed.code == 0, analysed.err

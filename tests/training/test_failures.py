"""Failures in training: loss and gradients that are not finite, memory, disks, operations."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.methods import configured, example
from helpers.program import (
    HANG,
    ROOT,
    TINY,
    Done,
    assert_same_checkpoint,
    listing,
    metrics,
    mgap,
    sets,
    start,
    status,
    tensors,
)

from mgap_cli.config import Config, resolve
from mgap_cli.data.loading.loader import Batch
from mgap_cli.data.store import open_store
from mgap_cli.errors import MgapError, UsageError
from mgap_cli.methods.base import cross_entropy, unimodal_cross_entropy
from mgap_cli.output import Output
from mgap_cli.training.device import be_deterministic, choose_float32
from mgap_cli.training.precision import Precision
from mgap_cli.training.step_guard import StepGuard, TrainingPosition, explained
from mgap_cli.training.task import Task
from mgap_cli.training.trainer import Trainer
from mgap_cli.workflow.stages import plan_warmup

CPU = torch.device("cpu")
WARMUP = ["warmup", *sets(*TINY)]
MODULES = ("audio encoder", "visual encoder", "fusion", "heads")  # with parameters, in joint-heads


# --- bad steps


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return frames, audio and labels."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(6, 1, 3, 16, 16, generator=generator)
    audio = torch.randn(6, 1, 16, 16, generator=generator)
    return frames, audio, torch.arange(6) % 3


def small_task(method: str = "joint-heads") -> Task:
    torch.manual_seed(0)
    return Task(configured(model__width=2), method, classes=3, samples=6)


def train(batches: list, make, scaler: torch.amp.GradScaler) -> tuple[Task, dict, StepGuard]:
    """Train as the trainer does, in a few lines."""
    task = small_task()
    optimizer = make(task.parameters())
    guard = StepGuard(task, limit=2)
    for frames, audio, labels in batches:
        optimizer.zero_grad()
        outputs = task.network({"audio": audio, "visual": frames})
        loss = cross_entropy(outputs.fused, labels) + unimodal_cross_entropy(outputs, labels)
        loss.backward()
        guard.apply(optimizer, scaler, guard.admit(loss))
    return task, optimizer.state_dict()["state"], guard


def poisoned(seed: int, value: float, where: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    spoilt = batch(seed)
    spoilt[where][2] = value
    return spoilt


def flat(task: torch.nn.Module, memory: dict) -> dict[str, torch.Tensor]:
    kept = {k: v for k, v in task.state_dict().items() if not k.endswith("num_batches_tracked")}
    return kept | {f"{i}.{k}": v for i, of in memory.items() for k, v in of.items() if v is not None}


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
def test_a_bad_step_changes_nothing(optimizer_name, fused, at):
    """This includes the first step, after which torch's fused SGD would use uninitialised memory."""

    def make(parameters):
        if optimizer_name == "sgd":
            return torch.optim.SGD(parameters, 0.1, 0.9, weight_decay=1e-2, fused=fused)
        return torch.optim.AdamW(parameters, 0.1, fused=fused)

    batches = [batch(i) for i in range(4)]
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    task, memory, guard = train(batches, make, scaler)
    spoilt = [*batches[:at], poisoned(9, float("nan"), 0), poisoned(9, float("inf"), 1), *batches[at:]]
    other, other_memory, other_guard = train(spoilt[: at + 1] + spoilt[at + 2 :], make, scaler)
    for (name, a), b in zip(flat(task, memory).items(), flat(other, other_memory).values(), strict=True):
        assert torch.equal(a, b), name
        assert torch.isfinite(a).all()
    assert int(guard.row) == int(other_guard.row) == 0
    # Two in a row are the limit here.
    _, _, third = train(spoilt[: at + 2], make, scaler)
    with pytest.raises(MgapError, match=r"2 steps in a row \(epoch 1, step 7, lr 0\.5") as caught:
        third.check(TrainingPosition("warmup", 1, 7, 0.5))
    assert ("no step was good" in str(caught.value)) == (at == 0)


def test_gradients_that_are_not_finite_make_a_step_bad_where_the_loss_is_finite():
    task = small_task()
    guard = StepGuard(task, limit=1)
    for p in task.parameters():
        p.grad = torch.ones_like(p)
    assert bool(guard.admit(torch.tensor(1.0)))
    next(task.network.encoders["visual"].parameters()).grad[0] = float("inf")
    assert not bool(guard.admit(torch.tensor(1.0)))
    with pytest.raises(MgapError, match="the gradients are not finite for 1 steps in a row"):
        guard.check(TrainingPosition("warmup", 1, 1, 0.1))


def test_gradient_norms_are_listed_by_module_largest_first():
    task = small_task(example("learned_weights"))
    guard = StepGuard(task, limit=1)
    modules = dict(zip(("network.encoders.audio", "network.encoders.visual"), MODULES, strict=False))
    modules |= {"network.fusion": "fusion", "network.heads": "heads", "method": "method"}
    squares = dict.fromkeys(modules.values(), 0.0)  # in float64, by name
    generator = torch.Generator().manual_seed(0)
    for scale, (name, p) in enumerate(task.named_parameters()):
        p.grad = scale * torch.randn(p.shape, generator=generator)
        module = next(module for prefix, module in modules.items() if name.startswith(f"{prefix}."))
        squares[module] += float((p.grad.numpy().astype(np.float64) ** 2).sum())
    guard.admit(torch.tensor(1.0))
    assert list(guard.modules) == list(squares)
    np.testing.assert_allclose(guard.norms.numpy(), np.sqrt(list(squares.values())), rtol=1e-5)
    for p in task.parameters():
        p.grad = torch.full_like(p, float("nan"))
    guard.admit(torch.tensor(float("nan")))
    with pytest.raises(MgapError, match="gradient norms of the last good step, largest first: ") as caught:
        guard.check(TrainingPosition("adapt", 3, 4, 0.25))
    named = [m for part in str(caught.value).split("first: ")[1].split(", ") for m in squares if m in part]
    assert named == sorted(squares, key=lambda m: -squares[m])


def test_a_module_without_parameters_is_not_listed():
    assert tuple(StepGuard(small_task(), limit=1).modules) == MODULES


def spoil_after_the_first_epoch() -> None:
    """Make every loss NaN from the second epoch on."""
    plain = Trainer._train_step

    def train_step(trainer: Trainer, batch: Batch) -> None:
        if trainer.epoch >= 1:
            spoilt = torch.full_like(batch.inputs["audio"], torch.nan)
            batch = dataclasses.replace(batch, inputs={**batch.inputs, "audio": spoilt})
        plain(trainer, batch)

    Trainer._train_step = train_step  # type: ignore[method-assign]


def test_a_run_that_diverges_keeps_its_last_good_checkpoint(store, tmp_path):
    run = tmp_path / "run"
    line = [*WARMUP, store, "-o", run, "--optimizer", "sgd", "--epochs", 3, "--lr", 0.001]
    line += ["--schedule", "constant", *sets("train.max_bad_steps=4")]
    done = mgap(*line, before=spoil_after_the_first_epoch)
    what = "the loss is nan for 4 steps in a row (epoch 2, step 4, lr 0.001"
    done.fails(1, what, "largest first", *MODULES, "--lr")
    assert status(run)["state"] == "failed" and not (run / "warmup.pt").exists()
    assert status(run)["epoch"] == len(metrics(run)) == 1
    last = tensors(run / "warmup-last.pt")
    assert last[".epoch"] == 1 and last[".step"] == 0
    weights = [v for k, v in last.items() if k.startswith(".model.network")]
    assert all(bool(torch.isfinite(v).all()) for v in weights)
    # The same command continues from it to the same end; but this process has seen no good step.
    again = mgap(*line, before=spoil_after_the_first_epoch)
    again.fails(1, what, "no step was good")
    assert "continues from epoch 1, step 0" in again.err
    # It ends well if the cause is removed.
    assert mgap(*line).code == 0


def test_a_state_that_is_not_finite_is_never_saved(store, tmp_path):
    """The last step of an epoch may make the weights not finite, and no validation would notice it."""
    trainer = plan(store, tmp_path, "train.select=last")
    step = trainer._train_step

    def spoil(batch):
        step(batch)
        if trainer.epoch == 1:
            next(trainer.task.network.parameters()).data[0] = float("inf")

    trainer._train_step = spoil
    with pytest.raises(MgapError, match="the weights are not finite"):
        trainer.fit()
    assert tensors(tmp_path / "warmup-last.pt")[".epoch"] == 1


# --- memory


LIMITED = """
import resource, sys, torch, torch._dynamo
import mgap_cli.workflow.stages, mgap_cli.report.documents
from mgap_cli.__main__ import main
torch.set_num_threads(1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (int(sys.argv.pop(1)) << 20), resource.RLIM_INFINITY))
main()
"""


def limited(megabytes: int, *args: object) -> Done:
    """Run `mgap` with so much memory beside what its imports take."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(megabytes), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells how much memory the imports took")
def test_memory_that_runs_out_is_one_message_with_the_batch_size_to_try(store, tmp_path):
    line = ["warmup", store, "-o", tmp_path / "run", "--epochs", 1, "--encoder", "resnet10"]
    line += sets("augment.image_size=224", "model.width=32", "runtime.device=cpu")
    done = limited(200, *line, "--batch-size", 90)
    done.fails(1, "ran out of memory with a batch of 90 on cpu", "Try --batch-size 45.")
    assert status(tmp_path / "run")["state"] == "failed"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError("Unable to allocate 3.14 GiB for an array"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    ],
    ids=["cuda", "numpy", "cpu", "mps"],
)
def test_words_for_memory_that_runs_out(error):
    with pytest.raises(MgapError) as caught, explained(CPU, "--set runtime.eval_batch_size=", 100):
        raise error
    assert "with a batch of 100" in caught.value.message
    assert caught.value.hint == "Try --set runtime.eval_batch_size=50."
    with pytest.raises(MgapError) as caught, explained(CPU, "--batch-size ", 1):
        raise error
    assert "smaller network" in caught.value.hint


def test_other_errors_pass_unchanged():
    for error in (RuntimeError("shapes do not match"), ValueError("x"), MgapError("y")):
        with pytest.raises(type(error)) as caught, explained(CPU, "--batch-size ", 8):
            raise error
        assert caught.value is error


# --- disks


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1400k", "tmpfs", disk]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone, and not everywhere")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def stopped_with(line: list[object], run: Path, spoil) -> Done:
    """Start a run, act on it in its third epoch, and wait for its end."""
    running = start(*line, pause=(2, 0))
    running.until_paused()
    spoil()
    running.go_on()
    return running.wait()


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole")
    assert mgap(*WARMUP, store, "-o", run, "--epochs", 20).code == 0
    return run


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_complete(store, whole, small_disk):
    run, junk = small_disk / "run", small_disk / "junk"
    line = [*WARMUP, store, "-o", run, "--epochs", 20]

    def fill() -> None:
        with suppress(OSError), junk.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)

    done = stopped_with(line, run, fill)
    done.fails(1, "cannot be written (No space left on device")
    assert not list(run.glob(".*.tmp"))
    tensors(run / "warmup-last.pt")  # opens
    junk.unlink()
    assert mgap(*line).code == 0
    assert_same_checkpoint(whole / "warmup.pt", run / "warmup.pt")
    assert len(metrics(run)) == 20


def test_a_disk_without_space_for_a_checkpoint_gives_its_size(store, small_disk):
    (small_disk / "junk").write_bytes(b"\0" * 1_250_000)
    done = mgap(*WARMUP, store, "-o", small_disk / "run")
    done.fails(1, "warmup-best.pt: the checkpoint cannot be written", "0.3 MB needed", "Free space")


def test_a_run_folder_that_turns_read_only(store, whole, small_disk):
    run = small_disk / "run"
    line = [*WARMUP, store, "-o", run, "--epochs", 20]
    remount = ["mount", "-o", "remount", small_disk]

    def lock() -> None:
        # The mount is busy while a file is open for writing, which is most of the time.
        while subprocess.run([*remount[:2], "remount,ro", small_disk], capture_output=True).returncode:
            pass

    done = stopped_with(line, run, lock)
    done.fails(1, "cannot be written (Read-only file system")
    before = listing(run)
    mgap(*line).fails(1, "cannot be written (Read-only file system")
    assert listing(run) == before
    subprocess.run([*remount[:2], "remount,rw", small_disk], check=True)
    assert mgap(*line).code == 0
    assert_same_checkpoint(whole / "warmup.pt", run / "warmup.pt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(store, tmp_path):
    tmp_path.chmod(0o500)
    try:
        mgap(*WARMUP, store, "-o", tmp_path / "run").fails(1, "Permission denied")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_run_folders_place(store, tmp_path):
    (tmp_path / "run").write_text("mine")
    mgap(*WARMUP, store, "-o", tmp_path / "run").fails(1, "cannot be written")
    assert (tmp_path / "run").read_text() == "mine"


# --- determinism and number formats


def plan(store: Path, run: Path, *words: str) -> Trainer:
    """A trainer in this process."""
    config = resolve(Config(), sets=[*TINY, *words], environment={})
    planned = plan_warmup(open_store(store), config, run)
    return Trainer(
        planned.stage, planned.config, planned.store, run, Output(quiet=True), Precision("fp32", CPU)
    )


@pytest.fixture
def default_algorithms() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def test_an_operation_that_is_not_deterministic_is_named(store, tmp_path, default_algorithms):
    trainer = plan(store, tmp_path)
    loss = trainer.task.method.loss

    def with_put(outputs, batch):
        torch.zeros(4).put_(torch.tensor([1]), torch.ones(1))  # refused on a CPU too
        return loss(outputs, batch)

    trainer.task.method.loss = with_put
    be_deterministic(CPU, Output(quiet=True))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    with pytest.raises(UsageError, match="--deterministic: put_ has no deterministic form on cpu"):
        trainer.fit()


def test_two_runs_with_one_seed_are_equal_to_the_bit_with_and_without_the_option(store, tmp_path):
    for name, more in (("a", []), ("b", []), ("c", ["--deterministic"])):
        done = mgap(*WARMUP, store, "-o", tmp_path / name, "--method", "ogm-ge", *more)
        assert done.code == 0, done.err
        assert ("deterministic: on cpu" in done.err) == bool(more)
    for name in ("warmup.pt", "warmup-last.pt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert_same_checkpoint(tmp_path / "a/warmup.pt", tmp_path / "c/warmup.pt", ".model")


@pytest.mark.parametrize(
    ("wanted", "precision", "capability", "chosen", "why"),
    [
        ("auto", "bf16", (9, 0), "tf32", "bf16, which is no finer"),
        ("auto", "fp16", (8, 0), "tf32", "fp16"),
        ("auto", "fp32", (9, 0), "ieee", "TF32 would cut"),
        ("auto", "fp16", (7, 5), "ieee", "has no TF32"),
        ("tf32", "fp32", (8, 6), "tf32", "as asked"),
        ("ieee", "bf16", (9, 0), "ieee", "as asked"),
    ],
)
def test_how_float32_is_multiplied(monkeypatch, capsys, wanted, precision, capability, chosen, why):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, conv.fp32_precision
    try:
        assert choose_float32(wanted, precision, torch.device("cuda"), Output()) == chosen
        assert matmul.fp32_precision == conv.fp32_precision == chosen
    finally:
        matmul.fp32_precision, conv.fp32_precision = before
    said = capsys.readouterr().err
    assert said.startswith(f"float32: {chosen} (") and why in said


def test_tf32_without_a_gpu_is_an_error(store, tmp_path):
    done = mgap(*WARMUP, store, "-o", tmp_path, "--device", "cpu", "--tf32")
    done.fails(2, "--tf32: cpu has no TF32")
    done = mgap(*WARMUP, store, "-o", tmp_path, "--device", "cpu", "--no-tf32", "--dry-run", "--json")
    assert done.json()["float32"] == "ieee"
    assert json.loads(done.out)["config"]["runtime"]["float32"] == "ieee"
    assert listing(tmp_path) == {}

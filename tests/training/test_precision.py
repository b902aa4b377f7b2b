"""The number format depends on the CPU and on the speed; bf16 resumes bit for bit, like fp32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.program import TINY, assert_same_checkpoint, tensors

from mgap_cli.config import Config, resolve
from mgap_cli.data.store import open_store
from mgap_cli.errors import MgapError, UsageError
from mgap_cli.output import Output
from mgap_cli.training import precision
from mgap_cli.training.compiling import compiled, compiler_errors
from mgap_cli.training.precision import CPU_WIDTH, Precision, choose_precision
from mgap_cli.training.trainer import Trainer
from mgap_cli.workflow.stages import plan_warmup

CPU = torch.device("cpu")
QUIET = Output(quiet=True)
# Larger than CPU_TOO_SMALL.
LARGER = ("augment.image_size=32", "model.width=8", "model.encoder=resnet10", "train.select=last")


@pytest.mark.parametrize(
    ("wanted", "native", "width", "name", "why"),
    [
        ("auto", True, CPU_WIDTH, "bf16", "natively"),
        ("auto", True, CPU_WIDTH - 1, "fp32", f"at width {CPU_WIDTH - 1}"),
        ("auto", False, CPU_WIDTH, "fp32", "does not compute bf16 natively"),
        ("bf16", False, 4, "bf16", "as asked"),
        ("fp32", True, 64, "fp32", "as asked"),
    ],
)
def test_the_choice_and_its_reason(monkeypatch, capsys, wanted, native, width, name, why):
    monkeypatch.setattr(precision, "computes_bf16", lambda: native)
    config = Config().updated({"model.width": width}, "test")
    assert choose_precision(wanted, CPU, config, Output()).name == name
    log = capsys.readouterr().err
    assert f"precision: {name}" in log and why in log


def test_fp16_needs_cuda():
    with pytest.raises(UsageError, match="needs CUDA"):
        choose_precision("fp16", CPU, Config(), QUIET)


def test_bf16_on_a_cpu_keeps_away_from_inputs_that_become_one_pixel(monkeypatch, capsys):
    monkeypatch.setattr(precision, "computes_bf16", lambda: True)
    config = Config().updated({"augment.image_size": precision.CPU_TOO_SMALL}, "test")
    assert choose_precision("auto", CPU, config, Output()).name == "fp32"
    assert "16 pixels are too small" in capsys.readouterr().err
    with pytest.raises(UsageError, match="too small"):
        choose_precision("bf16", CPU, config, QUIET)


def trained(store: Path, run: Path, epochs: tuple[int, ...], *words: str) -> Path:
    """Train to each number of epochs, each time from the last checkpoint; return the final one."""
    run.mkdir()
    opened = open_store(store)
    for count in epochs:
        sets = [*TINY, *LARGER, f"warmup.epochs={count}", "train.epochs=3", *words]
        plan = plan_warmup(opened, resolve(Config(), sets=sets, environment={}), run)
        trainer = Trainer(plan.stage, plan.config, opened, run, QUIET, Precision("bf16", CPU))
        path = trainer.fit()
    return path


def test_bf16_repeats_and_resumes_to_the_bit_wherever_the_samples_lie(store, tmp_path):
    whole = trained(store, tmp_path / "whole", (3,))
    again = trained(store, tmp_path / "again", (1, 3), "runtime.memory_share=1e-12")
    for part in ("model", "loop"):
        assert_same_checkpoint(whole, again, f".{part}")


def test_a_failing_compiler_is_reported():
    def broken(*_: object) -> None:
        raise OSError("no g++ here")

    network = torch.compile(torch.nn.Linear(2, 2), backend=broken)
    with pytest.raises(MgapError, match=r"torch\.compile failed") as caught, compiler_errors():
        network(torch.zeros(3, 2))
    assert "\n" not in caught.value.message


def test_other_errors_pass():
    with pytest.raises(ValueError, match="mine"), compiler_errors():
        raise ValueError("mine")


def test_what_is_compiled_shares_its_weights():
    module = torch.nn.Linear(2, 2)
    assert next(compiled(module).parameters()) is module.weight


@pytest.mark.slow
def test_a_compiled_run_has_a_plain_ones_names(store, tmp_path):
    plain = trained(store, tmp_path / "plain", (1,))
    fast = trained(store, tmp_path / "fast", (1,), "runtime.compile=true")
    assert {k for k in tensors(plain) if k.startswith(".model")} == {
        k for k in tensors(fast) if k.startswith(".model")
    }

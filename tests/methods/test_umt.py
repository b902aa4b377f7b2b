"""umt: teachers of one modality each, trained as stages of their own, then a student that imitates them."""

from __future__ import annotations

import shutil

import torch
from helpers.one_step import TOLERANCE, assert_same_gradients, cross_entropy64, gradients_of, tiny_step
from helpers.program import TINY, assert_same_checkpoint, metrics, mgap, sets, start

from mgap_cli.runs.checkpoint import load_checkpoint

WEIGHT = 2.5


def test_one_step_is_the_formula():
    step = tiny_step("umt", umt__weight=WEIGHT)
    other = tiny_step("umt").network
    for parameter in other.parameters():
        parameter.data.mul_(1.1)
    step.method.on_stage_start({"teacher-audio": other, "teacher-visual": other})
    found = step.network(step.batch.inputs)
    taught = other.eval()(step.batch.inputs).features
    distance = sum(((f - taught[m].detach()) ** 2).sum() / 6 for m, f in found.features.items())
    loss = sum(map(cross_entropy64, found.logits.values())) + WEIGHT * distance
    expected = gradients_of(loss, step.network)
    step.method.training_step(step)
    torch.testing.assert_close(step.losses[0], loss.detach(), **TOLERANCE)
    assert_same_gradients(step.gradients(), expected)
    assert all(p.grad is None for p in step.method.teacher.parameters())


def line(store, run):
    return ["train", store, "--method", "umt", "-o", run, *sets(*TINY), "--epochs", 4]


def test_trains_by_stages_resumes_in_each_and_can_be_evaluated(store, tmp_path):
    whole = tmp_path / "whole"
    done = mgap(*line(store, whole))
    assert done.code == 0 and done.out == f"{whole / 'train.pt'}\n", done.err
    for stage in ("teacher-audio", "teacher-visual", "train"):
        assert [entry["epoch"] for entry in metrics(whole, stage)] == [1, 2]

    student = load_checkpoint(whole / "train.pt").model
    for modality in ("audio", "visual"):
        teacher = load_checkpoint(whole / f"teacher-{modality}.pt")
        assert teacher.method == "unimodal" and teacher.heads == (modality,)
        assert teacher.config.method_settings("unimodal").modality == modality
        prefix = f"network.encoders.{modality}."
        for name, tensor in teacher.model.items():
            if name.startswith(prefix):
                assert torch.equal(tensor, student[name.replace("network.", "method.teacher.", 1)])

    # Killed in the second teacher's stage, and again in the student's.
    run = tmp_path / "run"
    run.mkdir()
    for name in ("teacher-audio.pt", "teacher-audio-last.pt", "config.yaml", "status.json", "env.json"):
        shutil.copy(whole / name, run / name)
    for _ in range(2):
        running = start(*line(store, run), pause=(1, 2))
        running.until_paused()
        running.send(9)
        running.wait()
    assert mgap(*line(store, run)).code == 0
    for name in ("teacher-visual.pt", "train.pt", "train-last.pt"):
        assert_same_checkpoint(whole / name, run / name)

    assert mgap("evaluate", whole / "train.pt", *sets("evaluate.bootstrap=50")).code == 0
    assert mgap("analyze-gap", whole / "train.pt").code == 0


def test_a_budget_that_leaves_one_part_no_epoch_is_refused(store, tmp_path):
    mgap(*line(store, tmp_path / "run")[:-1], 1).fails(2, "umt.teachers", "--epochs")

"""umt: one teacher per modality, each trained in its own stage, and a student that imitates them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers.program import TINY, metrics, mgap, sets
from helpers.steps import TOLERANCE, exercise, gradients_of

from mgap_cli.runs.checkpoint import load_checkpoint, save_checkpoint

WEIGHT = 2.5


@pytest.mark.parametrize("modalities", [2, 3])
@pytest.mark.parametrize("unimodal", ["heads", "decomposed"])
def test_one_step_is_the_formula(modalities, unimodal):
    ex = exercise("umt", modalities, umt__weight=WEIGHT, model__unimodal=unimodal, model__fusion="sum")
    teachers = {}
    for i, m in enumerate(ex.network.encoders):
        teachers[m] = copy.deepcopy(ex.before).eval()
        for parameter in teachers[m].parameters():
            parameter.data.mul_(1.1 + i)
    ex.method.on_stage_start({f"teacher-{m}": teacher for m, teacher in teachers.items()})
    outputs = ex.before.train()(ex.batch.inputs)
    loss = F.cross_entropy(outputs.fused, ex.batch.labels)
    if unimodal == "heads":
        loss = loss + sum(F.cross_entropy(z, ex.batch.labels) for z in outputs.unimodal.values())
    for m, f in outputs.features.items():
        taught = teachers[m](ex.batch.inputs).features[m].detach()
        rows = [((f[i] - taught[i]) ** 2).sum() for i in range(len(f))]
        loss = loss + WEIGHT * sum(rows) / len(rows)
    state = {k: v.clone() for k, v in ex.method.teacher.state_dict().items()}
    step = ex.step()
    torch.testing.assert_close(step.loss, loss.detach(), **TOLERANCE)
    ex.assert_gradients(gradients_of(loss, ex.before))
    ex.assert_updated(gradients_of(loss, ex.before))
    assert all(torch.equal(v, state[k]) for k, v in ex.method.teacher.state_dict().items())


def line(store, run, epochs=4):
    return ["train", store, "--method", "umt", "-o", run, *sets(*TINY), "--epochs", epochs]


def test_the_student_keeps_the_encoders_of_its_teachers_and_can_be_evaluated(store, tmp_path):
    run = tmp_path / "run"
    done = mgap(*line(store, run))
    assert done.code == 0 and done.out == f"{run / 'train.pt'}\n", done.err
    for stage in ("teacher-audio", "teacher-visual", "train"):
        assert [entry["epoch"] for entry in metrics(run, stage)] == [1, 2]
    student = load_checkpoint(run / "train.pt").model
    for modality in ("audio", "visual"):
        teacher = load_checkpoint(run / f"teacher-{modality}.pt")
        assert teacher.method == "unimodal" and teacher.heads == (modality,)
        assert teacher.config.method_settings("unimodal").modality == modality
        encoder = {k: v for k, v in teacher.model.items() if k.startswith(f"network.encoders.{modality}.")}
        assert encoder
        for name, tensor in encoder.items():
            assert torch.equal(tensor, student[name.replace("network.", "method.teacher.", 1)])
    evaluated = mgap("evaluate", run, *sets("evaluate.bootstrap=50"))
    assert evaluated.code == 0 and "taking train.pt" in evaluated.err
    assert mgap("analyze-gap", run / "train.pt").code == 0


def test_a_budget_that_leaves_one_part_no_epoch_is_refused(store, tmp_path):
    mgap(*line(store, tmp_path / "run", 1)).fails(2, "umt.teachers", "--epochs")


def test_a_student_of_another_teacher_is_refused(store, tmp_path):
    run = tmp_path / "run"
    assert mgap(*line(store, run)).code == 0
    teacher = load_checkpoint(run / "teacher-audio.pt")
    next(iter(teacher.model.values())).add_(1)
    save_checkpoint(run / "teacher-audio.pt", teacher)
    mgap(*line(store, run)).fails(2, "train.pt", "another checkpoint of an earlier stage", "--force")

"""Checkpoints and run folders with any content: a command succeeds, or states in two lines what is wrong."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.program import Done, here, listing, sets
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mgap_cli.errors import UnfitError
from mgap_cli.files import read_json
from mgap_cli.runs.checkpoint import load_checkpoint
from mgap_cli.runs.layout import read_metrics

EVALUATION = sets("evaluate.bootstrap=20")
# Each command takes nearly a second: hypothesis shows a failure as it is, without making it smaller.
FEW = settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
NESTED = "[" * 3000 + "]" * 3000
WORDS = st.text(st.characters(exclude_categories=("C",)), max_size=8)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.just("x" * 5000), st.just(10**400)
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=5
)
TENSORS = st.sampled_from(
    [
        torch.zeros(()),
        torch.full((5,), math.nan, dtype=torch.float64),
        torch.zeros(3, 3, dtype=torch.complex64),
        torch.zeros(1).expand(10**9),
        torch.zeros(2, device="meta"),
        torch.eye(3).to_sparse(),
    ]
)
CUT = object()


def clean(done: Done) -> bool:
    """Return whether a command succeeded; assert that a failure has a clear message."""
    assert done.code in (0, 2, 3), done.err
    if done.code == 0:
        return True
    message = done.err[done.err.index("error: ") :]
    assert done.out == "" and len(message.splitlines()) <= 2 and "Traceback" not in done.err, done.err
    assert all(c.isprintable() or c == "\n" for c in message), done.err
    assert "bug in mgap" not in message and len(message) < 2000
    return False


def changed(tree: Any, data: st.DataObject, value: Any) -> Any:
    """Return a copy of nested lists and dicts in which one part is replaced by `value` or removed."""
    tree = copy.deepcopy(tree)
    parent = tree
    while True:
        keys = sorted(parent, key=str) if isinstance(parent, dict) else range(len(parent))
        key = data.draw(st.sampled_from(list(keys)))
        inner = parent[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.integers(0, 3)) == 0:
            break
        parent = inner
    if value is CUT:
        del parent[key]
    else:
        parent[key] = value
    return tree


@pytest.fixture(scope="module")
def analysed(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with every document that `report` reads."""
    run = Path(shutil.copytree(finished, tmp_path_factory.mktemp("analysed") / "run"))
    fast = [*EVALUATION, *sets("analysis.resamples=19", "gap.n_init=1")]
    both = [run / "warmup.pt", run / "adapt.pt"]
    for line in (
        ["analyze-gap", both[0], *fast],
        ["analyze-gap", *both, *fast],
        ["evaluate", *both, *EVALUATION],
    ):
        done = here(*line)
        assert done.code == 0, done.err
    return run


# --- checkpoints


@FEW
@given(data=st.data())
def test_a_changed_checkpoint(finished, tmp_path, data):
    content = torch.load(finished / "warmup.pt", weights_only=True)
    value = data.draw(st.just(CUT) | VALUES | TENSORS)
    path = tmp_path / "changed.pt"
    torch.save(changed(content, data, value), path)
    clean(here("evaluate", path, *EVALUATION))
    clean(here("adapt", path, "-o", tmp_path / "new", "--dry-run"))


@FEW
@given(data=st.data())
def test_a_checkpoint_with_other_bytes(finished, tmp_path, data):
    content = bytearray((finished / "warmup.pt").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    some = data.draw(st.binary(max_size=20))
    content[at : at + len(some)] = some
    path = tmp_path / "bytes.pt"
    path.write_bytes(content[: data.draw(st.sampled_from([at, len(content)]))])
    clean(here("evaluate", path, *EVALUATION))


@FEW
@given(data=st.data())
def test_a_changed_state_to_resume_from(finished, store, tmp_path, data):
    """Training continues from it, or reports before the first step that it cannot."""
    run = Path(shutil.copytree(finished, tmp_path / "run", dirs_exist_ok=True))
    (run / "adapt.pt").unlink()
    content = torch.load(finished / "adapt-last.pt", weights_only=True)
    content["epoch"], content["step"], content["history"] = 2, 0, content["history"][:2]
    for group in content["loop"]["optimizers"].values():
        group["schedule"]["last_epoch"] = 2
    part = data.draw(st.sampled_from(["loop", "selected", "history", "top"]))
    value = data.draw(st.just(CUT) | VALUES | TENSORS)
    if part == "top":
        content = changed(content, data, value)
    else:
        content[part] = changed(content[part], data, value)
    torch.save(content, run / "adapt-last.pt")
    clean(here("adapt", run / "warmup.pt", "-q"))


LISTS: Any = "x"
for _ in range(40):  # small in a file, but too large to walk through or to print
    LISTS = [LISTS] * 10
FIELDS = {
    "method": "magic",
    "stage": "../dessert",
    "epoch": -1,
    "step": True,
    "spent": 1.5,
    "classes": ["a", "a"],
    "history": [1],
    "selected": [],
    "config": {"train": {"lr": LISTS}},
    "model": {"network.heads.audio.weight": torch.zeros(1).expand(10**12)},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_training_does_not_write_is_named(finished, tmp_path, field):
    content = torch.load(finished / "warmup.pt", weights_only=True)
    torch.save({**content, field: FIELDS[field]}, tmp_path / "x.pt")
    with pytest.raises(UnfitError, match=f"x.pt: .*{field}"):
        load_checkpoint(tmp_path / "x.pt")


def test_a_configuration_of_a_huge_network_is_refused_without_using_memory(finished, tmp_path):
    content = torch.load(finished / "warmup.pt", weights_only=True)
    for width, problem in ((16_384, "do not fit its own configuration"), (2**62, "model.width")):
        content["config"]["model"]["width"] = width
        torch.save(content, tmp_path / "x.pt")
        here("evaluate", tmp_path / "x.pt").fails(3, problem)


def test_a_finished_stage_whose_checkpoint_is_missing(run):
    (run / "adapt.pt").unlink()
    here("adapt", run / "warmup.pt").fails(3, "adapt.pt is gone", "--force")


# --- the other files of a run folder

DOCUMENTS = ["gap-warmup.json", "evaluate.json", "movement.json", "status.json", "env.json"]


@FEW
@given(data=st.data())
def test_a_changed_document_in_a_report(analysed, tmp_path, monkeypatch, data):
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 0, 0, 9]) * 2
    monkeypatch.setattr("mgap_cli.report.page.run_page.png_bytes", lambda figure: png)
    monkeypatch.setattr(
        "mgap_cli.report.page.run_page.clip_figures", lambda store, rows: [None for _ in rows]
    )
    name = data.draw(st.sampled_from(DOCUMENTS))
    run = Path(shutil.copytree(analysed, tmp_path / "run", dirs_exist_ok=True))
    document = changed(json.loads((run / name).read_text()), data, data.draw(st.just(CUT) | VALUES))
    (run / name).write_text(json.dumps(document))
    clean(here("report", run))


@FEW
@given(data=st.data())
def test_changed_metrics(analysed, tmp_path, data):
    run = Path(shutil.copytree(analysed, tmp_path / "run", dirs_exist_ok=True))
    entries = read_metrics(analysed)
    entries = changed(entries, data, data.draw(st.just(CUT) | VALUES))
    (run / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
    json_wanted = data.draw(st.sampled_from([[], ["--json"]]))
    clean(here("analyze-gap", run, "--history", *json_wanted))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"a": NaN}', '{"a": 1e999}', f'{{"a": {NESTED}}}', '"x"', "\ud800", "9" * 9000]
)
def test_a_document_that_is_not_ours(analysed, tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UnfitError, match=r"x\.json: damaged") as caught:
        read_json(path)
    assert len(caught.value.message) < 400 and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", f"train: {NESTED}"),
        ("config.yaml", "a: &a [x, x]\nb: &b [*a, *a]\ntrain: {lr: [*b, *b]}"),
        ("config.yaml", "train: 2001-99-99"),
        ("metrics.jsonl", '{"stage": "adapt", "epoch": -1}\n'),
        ("metrics.jsonl", '{"stage": "adapt", "epoch": 1}\nnonsense\n'),
        ("gap-warmup.csv", "id,label\n"),
    ],
)
def test_a_report_names_the_file_that_is_damaged(analysed, tmp_path, name, text):
    run = Path(shutil.copytree(analysed, tmp_path / "run"))
    (run / name).write_text(text)
    before = listing(run)
    here("report", run, "--store", run / "none").fails(3, name)
    assert listing(run) == before

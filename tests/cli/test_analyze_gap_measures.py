"""`mgap analyze-gap --measures`: the table, the document, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.program import TINY, assert_same_checkpoint, mgap, sets
from scipy import stats
from scipy.special import softmax

KEYS = (
    *("discrepancy_ratio", "discrepancy_ratio_fusion", "shapley_sample_zeros", "shapley_dataset_zeros"),
    *("shapley_sample_mean", "shapley_dataset_mean", "confidence_share", "entropy_share"),
    *("gradient_cosine", "gradient_norm", "gradient_norm_ratio", "probe_accuracy"),
)


@pytest.fixture(scope="module")
def audio_only(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio") / "run"
    done = mgap(
        "warmup", store, "-o", folder, "--method", "unimodal", *sets(*TINY, "unimodal.modality=audio")
    )
    assert done.code == 0, done.err
    return folder / "warmup.pt"


def test_every_measure_of_a_checkpoint(run: Path, audio_only: Path, tmp_path: Path):
    checkpoint = run / "warmup.pt"
    before = shutil.copy(checkpoint, tmp_path / "before.pt")
    words = ("analyze-gap", checkpoint, "--split", "test", "--measures", "--unimodal", f"audio={audio_only}")
    done = mgap(*words, "--json")
    assert done.code == 0, done.err
    measures = {m["measure"]: m for m in done.json()["measures"]["test"]}
    assert tuple(measures) == (*KEYS, "probe_gap")
    assert_same_checkpoint(Path(before), checkpoint)
    for m in measures.values():
        assert m["source"] and m["n"] > 0 and m["leads"] in ("audio", "visual", None)
    assert sum(measures["confidence_share"]["values"].values()) == pytest.approx(1)
    judged = mgap("evaluate", checkpoint, "--split", "test", "--json").json()["evaluations"][0]["heads"]
    for fill in ("zeros", "mean"):  # efficiency
        total = sum(measures[f"shapley_sample_{fill}"]["values"].values())
        assert total == pytest.approx(2 * judged["fused"]["accuracy"])
    alone = mgap("evaluate", audio_only, "--split", "test", "--json").json()["evaluations"][0]["heads"]
    gap = alone["audio"]["accuracy"] - measures["probe_accuracy"]["values"]["audio"]
    assert measures["probe_gap"]["values"] == {"audio": pytest.approx(gap), "visual": None}

    text = mgap(*words, env={"COLUMNS": "80"}).out
    table = text[text.index("Imbalance by other measures") :].split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "Shapley zeros, sample " in table and "[1] Peng" in table


def test_measures_of_scores(tmp_path: Path):
    p = np.random.default_rng(0).random((40, 2))
    lines = [f"{i},0,{a},{v}" for i, (a, v) in enumerate(p)]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(["id,label,p_audio,p_visual", *lines]))
    done = mgap("analyze-gap", path, "--measures", "--json")
    assert done.code == 0, done.err
    (measures,) = done.json()["measures"]["audio-visual"]  # without other classes' probabilities, this one
    assert measures["value"] == pytest.approx(p[:, 0].sum() / p[:, 1].sum())


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_measures_of_scores_of_all_classes(tmp_path: Path, suffix: str):
    logits = np.random.default_rng(0).normal(size=(2, 40, 3)) * [[[3.0]], [[1.0]]]
    path = tmp_path / f"scores.{suffix}"
    if suffix == "npz":
        np.savez(path, label=np.zeros(40, int), logits_audio=logits[0], logits_visual=logits[1])
    else:
        names = [f"logits_{m}_{c}" for m in ("audio", "visual") for c in range(3)]
        rows = [[i, 0, *z] for i, z in enumerate(np.concatenate(list(logits), axis=1).tolist())]
        path.write_text("\n".join(",".join(map(str, row)) for row in [["id", "label", *names], *rows]))
    done = mgap("analyze-gap", path, "--measures", "--json")
    assert done.code == 0, done.err
    measures = {m["measure"]: m for m in done.json()["measures"]["audio-visual"]}
    p = softmax(logits, axis=2)
    confidence, entropy = p.max(axis=2), stats.entropy(p, axis=2)
    for name, of in (("confidence_share", confidence), ("entropy_share", entropy)):
        assert measures[name]["values"]["audio"] == pytest.approx((of[0] / of.sum(axis=0)).mean())
        assert measures[name]["leads"] == "audio"


def test_what_is_refused(run: Path, audio_only: Path, tmp_path: Path):
    checkpoint = run / "warmup.pt"
    mgap("analyze-gap", checkpoint, "--unimodal", f"audio={audio_only}").fails(2, "--measures")
    words = ("analyze-gap", checkpoint, "--measures", "--unimodal")
    mgap(*words, "smell").fails(2, "audio=a/train.pt")
    mgap(*words, f"smell={audio_only}").fails(2, "the modalities are audio and visual")
    mgap(*words, f"audio={tmp_path / 'none.pt'}").fails(3, "no such file")
    mgap(*words, f"visual={audio_only}").fails(
        2, "unimodal on audio, not on visual alone", "--method unimodal --set unimodal.modality=visual"
    )
    mgap("analyze-gap", checkpoint, run / "adapt.pt", "--measures").fails(2, "one checkpoint")

"""Evaluations of random classifiers with hostile names, for the tests of tables and figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mgap_cli.config import Config, EvaluateConfig
from mgap_cli.evaluation.by_column import by_column
from mgap_cli.evaluation.evaluate import Judgement
from mgap_cli.evaluation.metrics import summarise
from mgap_cli.evaluation.robustness import CLEAN, Condition, Measured, conditions
from mgap_cli.gap.scores import Scores
from mgap_cli.modalities.audio_visual import AUDIO_VISUAL
from mgap_cli.stats.intervals import Interval

CONFIG = EvaluateConfig(bootstrap=100)
CLASSES = ("happy", "[red]x[/red]", "a label that is far too long for any column", "five", "six", "empty")
HEADS = ("fused", "audio", "visual")


def judgement(
    seed: int = 0,
    method: str = "adaptive",
    stage: str = "adapt",
    skill: float = 1.0,
    heads: tuple[str, ...] = HEADS,
    n: int = 200,
    name: str = "",
    sets: dict[str, object] | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> Judgement:
    """An evaluation of random probabilities; the last class has no samples, the column group 25 values."""
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(7).integers(0, len(classes) - 1, n)
    p = {}
    for head in HEADS:
        logits = generator.normal(size=(n, len(classes)))
        logits[np.arange(n), labels] += skill
        p[head] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = {m: p[m][np.arange(n), labels] for m in ("audio", "visual")}
    both = {"audio", "visual"} <= set(heads)
    ids = [str(i) for i in range(n)]
    name = name or f"mgap-runs/[green]a-long-folder-name[/green]-{method}-seed{seed}/{stage}"
    columns = {"group": [f"[bold]speaker {i % 25}" for i in range(n)]}
    scores = Scores(ids, classes, labels, true, columns=columns)
    evaluation = summarise(
        ids, labels, classes, {h: p[h] for h in heads}, scores if both else None,
        config=CONFIG, name=name, split="test", stage=stage, method=method, seed=str(seed),
        posterior=generator.random(n) if both else None,
    )  # fmt: skip
    measured = [
        Measured(
            c, dict.fromkeys(heads, 0.9 / (i + 1)), dict.fromkeys(heads, Interval(0.5 / (i + 1), 1 / (i + 1)))
        )
        for i, c in enumerate([Condition(CLEAN), *conditions(CONFIG, AUDIO_VISUAL)])
    ]
    config = Config().updated({"train.seed": seed, **(sets or {})}, "test")
    groups = [by_column(scores, evaluation.correct, "group", CONFIG, 4)]
    return Judgement(Path(name + ".pt"), config, evaluation, groups, measured)

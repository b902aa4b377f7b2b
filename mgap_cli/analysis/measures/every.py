"""All measures of a checkpoint on a split, and the measures that need only scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from mgap_cli.analysis.measures.confidence import confidence_share, entropy_share
from mgap_cli.analysis.measures.discrepancy import discrepancy_ratio
from mgap_cli.analysis.measures.gradients import gradient_measures, gradients
from mgap_cli.analysis.measures.measure import Measure
from mgap_cli.analysis.measures.probe import features, probe_hits, probe_measures
from mgap_cli.analysis.measures.shapley import coalitions, shapley
from mgap_cli.config import Config, EvaluateConfig
from mgap_cli.data.loading.loader import Loader, generator_for
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.gap.scores import Scores, certainty_of, true_class_probability
from mgap_cli.stats.arrays import BoolArray, FloatArray
from mgap_cli.training.trained_model import TrainedModel, open_trained


def measures_of_model(
    model: TrainedModel, split: str, config: Config, unimodal: Mapping[str, Path]
) -> list[Measure]:
    """Return every measure of a checkpoint on a split; the module of each has its source and formula.

    unimodal: by modality, checkpoints trained on it alone. Raises UsageError if one has another head or
    there are not two modalities, UnfitError if it was trained on another store.
    """
    modalities = tuple(model.network.encoders)
    if len(modalities) != 2:
        raise UsageError(
            f"--measures compares two modalities; {model.path} has {', '.join(modalities)}.",
            "Export the scores with --csv, and analyse two: mgap analyze-gap SCORES.csv --modalities A,B "
            "--measures",
        )
    unknown = [name for name in unimodal if name not in modalities]
    if unknown:
        raise UsageError(f"--unimodal {unknown[0]}: the modalities are {' and '.join(modalities)}.")
    bootstrap = _bootstrap(config)
    references = {m: _unimodal_hits(model, m, path, split) for m, path in unimodal.items()}
    indices = model.store.indices(split)

    def loader(which: np.ndarray = indices, size: int = config.runtime.eval_batch_size) -> Loader:
        return Loader(model.store, which, model.device, model.config.augment, size)

    clean = model.predict(split)
    heads = [clean.probabilities[m] for m in modalities]
    p = [true_class_probability(h, clean.labels) for h in heads]
    measures = [discrepancy_ratio(p[0], p[1], bootstrap.confidence)]
    seen = features(model.network, loader().ordered())
    if seen.shares and model.config.model.unimodal == "heads":
        p = [true_class_probability(seen.shares[m], seen.labels) for m in modalities]
        measures.append(
            discrepancy_ratio(p[0], p[1], bootstrap.confidence, "discrepancy_ratio_fusion", "fusion")
        )
    for fill, right in coalitions(model, loader, clean, config.analysis.seed).items():
        measures += shapley(right, fill, bootstrap)
    measures += _certainties([certainty_of(h) for h in heads], bootstrap)

    size = model.config.train.batch_size
    permutation = _permutation(len(indices), config.analysis.seed)
    batches = loader(indices[permutation], size).ordered()
    of_batches = gradients(model.network, islice(batches, config.analysis.gradient_batches))
    measures += gradient_measures(of_batches, bootstrap.confidence)

    train = (
        seen if split == "train" else features(model.network, loader(model.store.indices("train")).ordered())
    )
    return measures + probe_measures(probe_hits(train, seen), references, bootstrap)


def measures_of_scores(scores: Scores, config: Config) -> list[Measure]:
    """Return the measures that need only scores; certainty needs the probabilities of all classes."""
    first, second = scores.p.values()
    measures = [discrepancy_ratio(first, second, config.analysis.confidence)]
    both = [scores.certainty[m] for m in scores.modalities if m in scores.certainty]
    return measures + (_certainties(both, _bootstrap(config)) if len(both) == 2 else [])


def _certainties(heads: Sequence[FloatArray], bootstrap: EvaluateConfig) -> list[Measure]:
    first, second = heads
    return [
        confidence_share(first[:, 0], second[:, 0], bootstrap),
        entropy_share(first[:, 1], second[:, 1], bootstrap),
    ]


def unimodal_paths(words: Sequence[str]) -> dict[str, Path]:
    """Read MODALITY=CHECKPOINT words; UsageError for anything else."""
    paths: dict[str, Path] = {}
    for word in words:
        name, mark, path = word.partition("=")
        if not mark or not path or not name:
            raise UsageError(f"--unimodal {word}: expected MODALITY=CHECKPOINT, such as audio=a/train.pt.")
        if name in paths:
            raise UsageError(f"--unimodal: {name} is given twice.")
        paths[name] = Path(path)
        if not paths[name].is_file():
            raise UnfitError(f"--unimodal {word}: no such file.")
    return paths


def _unimodal_hits(model: TrainedModel, modality: str, path: Path, split: str) -> BoolArray:
    other = open_trained(path, model.device, model.store.path)
    if other.heads != (modality,):
        raise UsageError(
            f"--unimodal {modality}={path}: it was trained with {other.checkpoint.method} on "
            f"{' and '.join(other.heads)}, not on {modality} alone.",
            f"Train one: mgap train {model.store.path} --method unimodal --set unimodal.modality={modality}",
        )
    predictions = other.predict(split)
    return np.asarray(predictions.probabilities[modality].argmax(axis=1) == predictions.labels)


def _bootstrap(config: Config) -> EvaluateConfig:
    """Return the settings of evaluate's bootstrap with the level and the seed of the analysis."""
    from dataclasses import replace

    return replace(config.evaluate, confidence=config.analysis.confidence, seed=config.analysis.seed)


def _permutation(n: int, seed: int) -> np.ndarray:
    import torch

    return torch.randperm(n, generator=generator_for(seed)).numpy()

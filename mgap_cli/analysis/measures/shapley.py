"""Shapley contributions of two modalities to the fused prediction, of each sample and of the data set.

With a value v(S) of each set S of modalities that are present, the Shapley value (1953) of two players is

    phi_first = ( v({first}) - v({}) + v({first, second}) - v({second}) ) / 2,

and phi_first + phi_second = v({first, second}) - v({}) (efficiency). All four values are computed exactly,
without sampling.

sample-level   Wei, Feng, Wang and Hu, Enhancing Multimodal Cooperation via Sample-level Modality
               Valuation, CVPR 2024: v_i(S) = |S| if the fused prediction with S present is right, else 0,
               and v_i({}) = 0. The tables show the mean over samples. A value is from -1/2 to 3/2; both sum
               to 2 if the prediction is right.
data-set-level in the manner of Hu, Li and Zhou, SHAPE, IJCAI 2022: v(S) = fused accuracy over the split with
               S present. v({}) is the accuracy of the constant prediction without any input.

A missing modality is replaced at the input, not in the features. This is like a dead microphone or a covered
lens, it works with any fusion, and it keeps the whole network. The code of Wei et al. drops the encoded
features instead; the figures differ if an encoder's features of an empty input are not 0. The input is
replaced by zeros, or by the mean over the training split, value by value. Zeros are ImageNet's mean colour in
normalised frames, but not silence in a log-spectrogram; the mean is more like the inputs that the network has
seen. If the two disagree, the ranking depends on the replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mgap_cli.analysis.measures.measure import Measure, difference_of_means
from mgap_cli.config import EvaluateConfig
from mgap_cli.data.loading.loader import Batch, Loader
from mgap_cli.evaluation.robustness import FILLS, Condition, corrupt, missing, training_means
from mgap_cli.model.inference import Predictions, predict
from mgap_cli.stats.arrays import BoolArray, FloatArray
from mgap_cli.training.trained_model import TrainedModel

SAMPLE_SOURCE = "Wei et al., CVPR 2024"
DATASET_SOURCE = "Hu et al., SHAPE, IJCAI 2022"


@dataclass(frozen=True)
class Coalitions:
    """(N,) whether the fused prediction is right with both modalities, with each alone, and with none."""

    both: BoolArray
    first: BoolArray
    second: BoolArray
    none: BoolArray


def two_players(
    none: FloatArray, first: FloatArray, second: FloatArray, both: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the Shapley values (N,) of two players from the values (N,) of their four coalitions."""
    return (first - none + both - second) / 2, (second - none + both - first) / 2


def sample_contributions(right: Coalitions) -> tuple[FloatArray, FloatArray]:
    """Return the (N,) sample-level contributions of the first and the second modality."""
    both, first, second = (x.astype(np.float64) for x in (right.both, right.first, right.second))
    return two_players(np.zeros_like(both), first, second, 2 * both)


def dataset_contributions(right: Coalitions) -> tuple[FloatArray, FloatArray]:
    """Return (N,) terms whose means are the data-set-level contributions, as accuracies are means of hits."""
    none, first, second, both = (
        x.astype(np.float64) for x in (right.none, right.first, right.second, right.both)
    )
    return two_players(none, first, second, both)


def shapley(right: Coalitions, fill: str, config: EvaluateConfig) -> list[Measure]:
    """Return the contributions of both levels; `fill` names the replacement for a missing modality."""
    n = len(right.both)
    sample = difference_of_means(*sample_contributions(right), config)
    dataset = difference_of_means(*dataset_contributions(right), config)
    return [
        Measure(
            f"shapley_sample_{fill}",
            f"Shapley {fill}, sample",
            *sample[:2],
            "difference",
            *sample[2:],
            n,
            SAMPLE_SOURCE,
        ),
        Measure(
            f"shapley_dataset_{fill}",
            f"Shapley {fill}, set",
            *dataset[:2],
            "difference",
            *dataset[2:],
            n,
            DATASET_SOURCE,
            percent=True,
        ),
    ]


def coalitions(
    model: TrainedModel, loader: Callable[[], Loader], clean: Predictions, seed: int
) -> dict[str, Coalitions]:
    """Return {fill: whether the fused head is right without each modality}; each fill needs two passes.

    clean: the predictions with both modalities. Without any input, the prediction is the same for all
    samples, so it is computed for one.
    """
    means, stored = training_means(model), model.store.data_config
    by_fill = {}
    for fill in FILLS:
        no_first, no_second = (missing(m, fill) for m in model.network.encoders)

        def fused(*gone: Condition, limit: int | None = None) -> Predictions:
            def batches() -> Iterator[Batch]:
                for batch in loader().ordered():
                    for condition in gone:
                        batch = corrupt(batch, condition, seed, stored.n_fft, stored.hop, means)
                    yield batch
                    if limit:
                        return

            return predict(model.network, batches())

        def right(predictions: Predictions) -> BoolArray:
            return np.asarray(predictions.probabilities["fused"].argmax(axis=1) == predictions.labels)

        constant = int(fused(no_first, no_second, limit=1).probabilities["fused"][0].argmax())
        by_fill[fill] = Coalitions(
            right(clean), right(fused(no_second)), right(fused(no_first)), clean.labels == constant
        )
    return by_fill

"""Metrics of one checkpoint on one split, their uncertainty, and paired comparisons of two.

Pure functions of arrays. N samples, C classes; a head is 'fused' or a modality. Shares are in
[0, 1]; a number that does not exist (average precision without a positive) is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgap_cli.config import EvaluateConfig
from mgap_cli.errors import UnfitError, UsageError
from mgap_cli.evaluation.calibration import Reliability, confidence_bins, reliability
from mgap_cli.gap.mixture import IMBALANCED
from mgap_cli.gap.scores import FUSED, Scores
from mgap_cli.stats.arrays import BoolArray, FloatArray, IntArray
from mgap_cli.stats.intervals import Interval, wilson_interval
from mgap_cli.stats.paired import McNemar, mcnemar

DECISION = "decision"  # the name, among the heads, of a decision rule's predictions
CHUNK = 2**22  # numbers per array that a bootstrap keeps in memory, 32 MB


def _listed(interval: Interval | None) -> list[float] | None:
    return interval.to_list() if interval else None


@dataclass(frozen=True)
class TopK:
    """Share of samples whose true class is among the k most probable ones."""

    k: int
    accuracy: float
    interval: Interval

    def to_dict(self) -> dict[str, Any]:
        return {"k": self.k, "accuracy": self.accuracy, "interval": self.interval.to_list()}


@dataclass(frozen=True)
class HeadMetrics:
    """The metrics of one head."""

    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    mean_average_precision: float | None
    mean_average_precision_interval: Interval | None
    per_class: tuple[float | None, ...]  # (C,) accuracy on the samples of each class; None without any
    per_class_interval: tuple[Interval | None, ...]  # (C,) Wilson's; None for a class without samples
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    top_k: TopK | None  # None if there are at most k classes
    reliability: Reliability
    ece_interval: Interval
    confusion: tuple[tuple[int, ...], ...]  # (C, C) counts by true class (row) and predicted class

    def to_dict(self) -> dict[str, Any]:
        return {
            "accuracy": self.accuracy,
            "accuracy_interval": self.accuracy_interval.to_list(),
            "macro_f1": self.macro_f1,
            "macro_f1_interval": self.macro_f1_interval.to_list(),
            "mean_average_precision": self.mean_average_precision,
            "mean_average_precision_interval": _listed(self.mean_average_precision_interval),
            "per_class_accuracy": list(self.per_class),
            "per_class_accuracy_interval": [_listed(interval) for interval in self.per_class_interval],
            "balanced_accuracy": self.balanced_accuracy,
            "balanced_accuracy_interval": self.balanced_accuracy_interval.to_list(),
            "top_k": self.top_k.to_dict() if self.top_k else None,
            "ece": self.reliability.ece,
            "ece_interval": self.ece_interval.to_list(),
            "reliability": self.reliability.to_dict(),
            "confusion": [list(row) for row in self.confusion],
        }


@dataclass(frozen=True)
class GapStatistics:
    """The modality gap over a split, as `gap.scores` defines it.

    leads: modality to the share of samples in which it alone has the highest score.
    """

    mean_absolute: float
    mean_absolute_interval: Interval
    median_absolute: float
    mean_signed: float
    leads: dict[str, float]
    balanced: float | None  # share with a posterior of imbalance under 1/2; None without a mixture

    def to_dict(self) -> dict[str, Any]:
        return {
            "mean_absolute": self.mean_absolute,
            "mean_absolute_interval": self.mean_absolute_interval.to_list(),
            "median_absolute": self.median_absolute,
            "mean_signed": self.mean_signed,
            **{f"{name}_leads_share": share for name, share in self.leads.items()},
            "balanced_share": self.balanced,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """All metrics of one checkpoint on one split."""

    name: str
    split: str
    stage: str
    method: str
    seed: str
    confidence: float  # of every interval
    modalities: tuple[str, ...]  # all of the network, also those without a trained head
    classes: tuple[str, ...]
    class_counts: tuple[int, ...]  # (C,) samples of each class
    heads: dict[str, HeadMetrics]
    gap: GapStatistics | None  # None for a model of one modality
    ids: tuple[str, ...]  # (N,)
    correct: dict[str, BoolArray]  # head -> (N,)
    scores: Scores | None  # of every modality, in the order of `ids`; None for a model of one modality

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def absent(self) -> tuple[str, ...]:
        """Return the classes without a sample, which mAP and per-class accuracy leave out."""
        return tuple(c for c, n in zip(self.classes, self.class_counts, strict=True) if n == 0)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the per-sample arrays, as plain values."""
        return {
            "name": self.name,
            "split": self.split,
            "n": self.n,
            "stage": self.stage,
            "method": self.method,
            "seed": self.seed,
            "confidence": self.confidence,
            "classes": list(self.classes),
            "class_counts": list(self.class_counts),
            "classes_without_samples": list(self.absent),
            "heads": {head: metrics.to_dict() for head, metrics in self.heads.items()},
            "gap": self.gap.to_dict() if self.gap else None,
        }


def main_head(heads: Collection[str]) -> str:
    """Return the head whose metrics are reported: the decision rule, else the fused head, else the first."""
    return next((head for head in (DECISION, FUSED) if head in heads), next(iter(heads)))


@dataclass(frozen=True)
class Comparison:
    """Accuracy of b minus that of a, on the same samples."""

    a: str
    b: str
    head: str
    n: int
    confidence: float
    difference: float
    interval: Interval
    test: McNemar
    adjusted: float | None = None  # p after Holm's correction over all comparisons made at once

    def to_dict(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "head": self.head,
            "n": self.n,
            "confidence": self.confidence,
            "accuracy_difference": self.difference,
            "interval": self.interval.to_list(),
            "mcnemar_p": self.test.p_value,
            "mcnemar_method": self.test.method,
            "mcnemar_p_holm": self.adjusted,
            "only_a_correct": self.test.only_a,
            "only_b_correct": self.test.only_b,
        }


def summarise(
    ids: Sequence[str],
    labels: IntArray,
    classes: Sequence[str],
    probabilities: Mapping[str, FloatArray],
    scores: Scores | None,
    *,
    config: EvaluateConfig,
    name: str,
    split: str,
    stage: str = "",
    method: str = "",
    seed: str = "",
    modalities: Sequence[str] = (),
    posterior: FloatArray | None = None,
) -> Evaluation:
    """Return the metrics of every head in `probabilities` (head -> (N, C)) and of the gap.

    `labels` and `posterior` (of imbalance) are (N,); without the scores of all modalities there is no gap.
    modalities: all modalities of the network; by default those of the heads.
    Raises UnfitError for no samples at all and for non-finite numbers.
    """
    if len(ids) == 0:
        raise UnfitError(f"{name}: the {split} split has no samples to evaluate.")
    for what, values in probabilities.items():
        bad = np.size(values) - int(np.isfinite(values).sum())
        if bad:
            raise UnfitError(f"{name}: {bad} of {np.size(values)} {what} values are not finite.")
    labels = np.asarray(labels, dtype=np.int64)
    predicted = {head: p.argmax(axis=1) for head, p in probabilities.items()}
    return Evaluation(
        name=name,
        split=split,
        stage=stage,
        method=method,
        seed=seed,
        confidence=config.confidence,
        modalities=tuple(modalities)
        or tuple(head for head in probabilities if head not in (FUSED, DECISION)),
        classes=tuple(classes),
        class_counts=tuple(np.bincount(labels, minlength=len(classes)).tolist()),
        heads={head: head_metrics(labels, p, config) for head, p in probabilities.items()},
        gap=gap_statistics(scores, config, posterior) if scores else None,
        ids=tuple(ids),
        correct={head: p == labels for head, p in predicted.items()},
        scores=scores,
    )


def head_metrics(labels: IntArray, probabilities: FloatArray, config: EvaluateConfig) -> HeadMetrics:
    """Return the metrics of one head from labels (N,) and class probabilities (N, C)."""
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    hits = top_k_correct(labels, probabilities, config.top_k)
    return HeadMetrics(
        accuracy=accuracy(labels, predicted),
        accuracy_interval=share_interval(labels == predicted, config),
        macro_f1=macro_f1(labels, predicted),
        macro_f1_interval=bootstrap_macro_f1(labels, predicted, config),
        mean_average_precision=mean_average_precision(labels, probabilities),
        mean_average_precision_interval=mean_average_precision_interval(labels, probabilities, config),
        per_class=per_class_accuracy(labels, predicted, classes),
        per_class_interval=per_class_intervals(labels, predicted, classes, config),
        balanced_accuracy=balanced_accuracy(labels, predicted),
        balanced_accuracy_interval=balanced_accuracy_interval(labels, predicted, config),
        top_k=TopK(config.top_k, float(hits.mean()), share_interval(hits, config))
        if classes > config.top_k
        else None,
        reliability=reliability(labels, probabilities, config.bins),
        ece_interval=bootstrap_ece(labels, probabilities, config),
        confusion=confusion(labels, predicted, classes),
    )


def gap_statistics(
    scores: Scores, config: EvaluateConfig, posterior: FloatArray | None = None
) -> GapStatistics:
    """Summarise the gaps of the scores; `posterior` (N,) gives the balanced share."""
    gap = scores.gap
    return GapStatistics(
        mean_absolute=float(np.abs(gap).mean()),
        mean_absolute_interval=bootstrap_mean(np.abs(gap), config),
        median_absolute=float(np.median(np.abs(gap))),
        mean_signed=float(gap.mean()),
        leads={name: float(scores.leads(name).mean()) for name in scores.modalities},
        balanced=None if posterior is None else float((posterior < IMBALANCED).mean()),
    )


def compare(a: Evaluation, b: Evaluation, config: EvaluateConfig, head: str = "fused") -> Comparison:
    """Compare b with a, sample by sample: accuracy difference (b - a), its interval, McNemar's test.

    Raises UsageError unless both were evaluated on the same samples.
    """
    if set(a.ids) != set(b.ids):
        raise UsageError(
            f"{a.name} and {b.name} were evaluated on different samples: no paired comparison.",
            "Evaluate both on the same split of the same store.",
        )
    row = {sample: i for i, sample in enumerate(b.ids)}
    correct_a, correct_b = a.correct[head], b.correct[head][[row[sample] for sample in a.ids]]
    difference = correct_b.astype(np.float64) - correct_a
    return Comparison(
        a=a.name,
        b=b.name,
        head=head,
        n=a.n,
        confidence=config.confidence,
        difference=float(difference.mean()),
        interval=bootstrap_mean(difference, config),
        test=mcnemar(correct_a, correct_b),
    )


def accuracy(labels: IntArray, predicted: IntArray) -> float:
    """Return the share of (N,) predictions that equal the label."""
    return float(np.mean(labels == predicted))


def per_class_accuracy(labels: IntArray, predicted: IntArray, classes: int) -> tuple[float | None, ...]:
    """Return the accuracy on the samples of each class (its recall), None for a class without samples."""
    counts = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[labels == predicted], minlength=classes)
    return tuple(float(h / n) if n else None for h, n in zip(hits, counts, strict=True))


def per_class_intervals(
    labels: IntArray, predicted: IntArray, classes: int, config: EvaluateConfig
) -> tuple[Interval | None, ...]:
    """Return Wilson's interval of each class's accuracy (C,), None for a class without samples."""
    return tuple(
        share_interval(correct, config) if len(correct) else None
        for correct in (predicted[labels == c] == c for c in range(classes))
    )


def balanced_accuracy(labels: IntArray, predicted: IntArray) -> float:
    """Return the mean over classes of the accuracy on each class; chance is 1 / C for uneven classes, too."""
    correct = labels == predicted
    return float(np.mean([correct[labels == c].mean() for c in np.unique(labels)]))


def top_k_correct(labels: IntArray, probabilities: FloatArray, k: int) -> BoolArray:
    """Return (N,) whether the label is among the k most probable classes of (N, C); ties favour the first."""
    true_class = probabilities[np.arange(len(labels)), labels][:, None]
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > true_class) | ((probabilities == true_class) & before)
    return np.asarray(ahead.sum(axis=1) < k, dtype=bool)


def confusion(labels: IntArray, predicted: IntArray, classes: int) -> tuple[tuple[int, ...], ...]:
    """Return the (C, C) counts of samples by true class (row) and predicted class (column)."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return tuple(tuple(row) for row in counts.reshape(classes, classes).tolist())


def macro_f1(labels: IntArray, predicted: IntArray) -> float:
    """Return the mean F1 = 2 TP / (2 TP + FP + FN) over the classes that are true or predicted somewhere."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def mean_average_precision(labels: IntArray, probabilities: FloatArray) -> float | None:
    """Return the mean over classes of one-vs-rest average precision, from probabilities (N, C).

    Average precision is scikit-learn's sum_k (R_k - R_{k-1}) P_k, without interpolation. Classes without a
    positive sample are left out; None if no class is left.
    """
    from sklearn.metrics import average_precision_score

    present = np.unique(labels)
    if not len(present):
        return None
    truth = labels[:, None] == present[None, :]
    return float(average_precision_score(truth, probabilities[:, present], average="macro"))


def roc_auc(truth: BoolArray, score: FloatArray) -> float | None:
    """Return the area under the ROC curve of `score` (N,) as a detector of `truth` (N,).

    It is the probability that a random positive scores above a random negative; ties count one half. None if
    there are no positives or no negatives.
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(truth, dtype=bool)
    if truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, score))


def share_interval(hits: BoolArray, config: EvaluateConfig) -> Interval:
    """Return Wilson's interval for the share of true values among (N,), N >= 1."""
    return wilson_interval(int(np.count_nonzero(hits)), len(hits), config.confidence)


def balanced_accuracy_interval(labels: IntArray, predicted: IntArray, config: EvaluateConfig) -> Interval:
    """Return the interval of `balanced_accuracy`, a mean of independent shares, from their Wilson intervals.

    If p_c is the accuracy on class c of C classes, and (l_c, u_c) its interval, the ends are
    mean(p) - sqrt(sum (p_c - l_c)^2) / C and mean(p) + sqrt(sum (u_c - p_c)^2) / C (Zou and Donner,
    Statistics in Medicine 27, 2008).
    """
    shares, below, above = [], [], []
    for c in np.unique(labels):
        correct = predicted[labels == c] == c
        share, interval = float(correct.mean()), share_interval(correct, config)
        shares.append(share)
        below.append(share - interval.low)
        above.append(interval.high - share)
    mean, classes = float(np.mean(shares)), len(shares)
    low, high = (float(np.sqrt(np.sum(np.square(side)))) / classes for side in (below, above))
    return Interval(max(mean - low, 0.0), min(mean + high, 1.0))


def mean_average_precision_interval(
    labels: IntArray, probabilities: FloatArray, config: EvaluateConfig
) -> Interval | None:
    """Return the interval of `mean_average_precision`; None if that is None.

    The variance v comes from the infinitesimal jackknife: it is the sum over samples of the squared
    derivative in the sample's weight (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans",
    1982). The interval is Wilson's at the effective sample size p (1 - p) / v (Korn and Graubard, Survey
    Methodology 24, 1998), which stays in [0, 1]. If v is 0, as for a perfect ranking, the sample size is the
    number of samples.
    """
    estimate = mean_average_precision(labels, probabilities)
    if estimate is None:
        return None
    present = np.unique(labels)
    influence = np.zeros(len(labels))
    for c in present:
        influence += _average_precision_influence(labels == c, probabilities[:, c]) / len(present)
    variance, spread = float(np.sum(influence**2)), estimate * (1 - estimate)
    n = spread / variance if variance > 1e-12 and spread > 0 else float(len(labels))
    return wilson_interval(estimate * n, n, config.confidence)


def _average_precision_influence(truth: BoolArray, score: FloatArray) -> FloatArray:
    """Return the derivatives (N,) of the average precision of `score` in the weight of each sample.

    AP = sum_i y_i P_i / T, with P_i the precision among the D_i samples that score at least as high as i, and
    T the number of positives. The weight of sample k has two effects. It adds y_k (P_k - AP) / T. And it
    changes every P_i at or below it, which adds the sum over positives i with s_i <= s_k of (y_k - P_i) / (T
    D_i).
    """
    _, group_of = np.unique(-score, return_inverse=True)  # groups of equal scores, in descending order
    groups = int(group_of.max()) + 1
    positives = np.bincount(group_of, weights=truth, minlength=groups)
    ahead = np.cumsum(np.bincount(group_of, minlength=groups))  # D of each group
    precision = np.cumsum(positives) / ahead
    total = positives.sum()
    average = float((positives * precision).sum() / total)
    # Sums of 1 / D and of P / D over the positives from each group to the lowest.
    inverse = np.cumsum((positives / ahead)[::-1])[::-1]
    weighted = np.cumsum((positives * precision / ahead)[::-1])[::-1]
    direct = truth * (precision[group_of] - average)
    return np.asarray((direct + truth * inverse[group_of] - weighted[group_of]) / total)


def bootstrap_mean(values: NDArray[Any], config: EvaluateConfig) -> Interval:
    """Return the percentile bootstrap interval (Efron, 1979) of the mean of (N,) values."""
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    draws = [resampled @ distinct for resampled in _resampled_counts(counts, config)]
    return _percentiles(np.concatenate(draws) / counts.sum(), config)


def bootstrap_macro_f1(labels: IntArray, predicted: IntArray, config: EvaluateConfig) -> Interval:
    """Return the percentile bootstrap interval of `macro_f1`; samples are resampled with replacement.

    If all N predictions are right, or all are wrong, resampling changes nothing. The result is then Wilson's
    interval of N in N, or of 0 in N.
    """
    correct = labels == predicted
    if correct.all() or not correct.any():
        return share_interval(correct, config)
    cells, counts = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    classes = np.unique(cells)
    is_true = (cells[:, :1] == classes).astype(np.float64)  # (cells, classes)
    is_predicted = (cells[:, 1:] == classes).astype(np.float64)
    scores = []
    for resampled in _resampled_counts(counts, config):
        doubled_hits = 2 * (resampled @ (is_true * is_predicted))  # 2 TP: (resamples, classes)
        total = resampled @ (is_true + is_predicted)  # 2 TP + FP + FN
        f1 = np.divide(doubled_hits, total, out=np.zeros_like(total), where=total > 0)
        scores.append(f1.sum(axis=1) / (total > 0).sum(axis=1))
    return _percentiles(np.concatenate(scores), config)


def bootstrap_ece(labels: IntArray, probabilities: FloatArray, config: EvaluateConfig) -> Interval:
    """Return the basic bootstrap interval (Davison and Hinkley, 1997, section 5.2) of the ECE.

    Resampling adds noise to the absolute value in each bin. The draws therefore exceed the estimate, as the
    estimate exceeds the truth. The ends 2 estimate - quantile subtract this bias; the percentile interval
    would add it a second time. The interval is cut to [0, 1]. In simulations of 700 samples, the 95 %
    interval covers the truth in 93 % of the cases for a miscalibrated model. For a perfectly calibrated
    model, the true value is 0, the end of the range. The interval then covers it in about half of the cases,
    and the percentile interval never does.
    """
    confidence, bin_of = confidence_bins(probabilities, config.bins)
    excess = np.zeros((len(labels), config.bins))
    rows = np.arange(len(labels))
    excess[rows, bin_of] = (probabilities.argmax(axis=1) == labels) - confidence
    estimate = float(np.abs(excess.sum(axis=0)).sum()) / len(labels)
    ones = np.ones(len(labels), dtype=np.int64)
    draws = [np.abs(r @ excess).sum(axis=1) / len(labels) for r in _resampled_counts(ones, config)]
    tails = _percentiles(np.concatenate(draws), config)
    low, high = (float(np.clip(2 * estimate - tail, 0, 1)) for tail in (tails.high, tails.low))
    return Interval(low, high)


def _resampled_counts(counts: IntArray, config: EvaluateConfig) -> Iterator[FloatArray]:
    """Yield (resamples, K): how often each of K kinds of sample is drawn when N = sum(counts) are drawn.

    Drawing N samples with replacement and counting their kinds is one multinomial draw. With few kinds (such
    as right and wrong) a million samples cost no more than ten.
    """
    generator = np.random.default_rng(config.seed)
    n, groups = int(counts.sum()), len(counts)
    few = groups * 4 < n
    chunk = max(1, CHUNK // (groups if few else n))
    group_of = np.repeat(np.arange(groups), 0 if few else counts)
    for start in range(0, config.bootstrap, chunk):
        size = min(chunk, config.bootstrap - start)
        if few:
            yield generator.multinomial(n, counts / n, size=size).astype(np.float64)
        else:  # nearly every sample is its own kind: drawing samples is faster than a multinomial
            drawn = group_of[generator.integers(0, n, size=(size, n))] + groups * np.arange(size)[:, None]
            yield np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups).astype(np.float64)


def _percentiles(draws: FloatArray, config: EvaluateConfig) -> Interval:
    tail = (1 - config.confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(low), float(high))

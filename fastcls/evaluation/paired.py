"""Several predictions of the same images: how far apart are they, and by how much could that be chance.

Every candidate is judged on the same resamples of the images (paired bootstrap), so that what makes all of
them better or worse cancels out of a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

RESAMPLES = 1000
LEVEL = 0.95
_BLOCK = 1 << 21  # of weights in memory at once


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was predicted for N images.

    Attributes:
        labels: Their label array, (N,) int or (N, C) of 0 and 1.
        hits: (N,) bool: whether all that was decided of an image is right.
        probabilities: (N, C); None where they are not known.
    """

    labels: np.ndarray
    hits: np.ndarray
    probabilities: np.ndarray | None = None

    @classmethod
    def of(cls, task: Task, labels: np.ndarray, probabilities: np.ndarray) -> Outcome:
        """The decisions of probabilities, at the thresholds that a task has by default."""
        decided = task.decide(probabilities, task.default_thresholds(probabilities.shape[1]))
        hits = (decided == labels.reshape(len(labels), -1)).all(axis=1)
        return cls(labels, hits, probabilities)


# What each image counts, (B, N) -> a figure for each resample, (B,); NaN where it is undefined.
Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Figure:
    """A figure of predictions.

    Attributes:
        name: As files have it.
        title: As tables and pictures have it.
        of: Prepares it for predictions.
        needs_probabilities: Whether decisions alone do not tell it.
    """

    name: str
    title: str
    of: Callable[[Outcome], Statistic]
    needs_probabilities: bool = False


@dataclass(frozen=True)
class Estimate:
    """A figure, and where it would be with other images (95 %).

    Attributes:
        value: On the images as they are.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def signed(self) -> str:
        """A difference in words."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    def to_list(self) -> list[float | None]:
        """The value and both ends, as JSON can hold them."""
        return [None if np.isnan(value) else float(value) for value in (self.value, self.low, self.high)]


@dataclass(frozen=True)
class Measured:
    """One candidate by one figure.

    Attributes:
        estimate: The figure.
        behind: By how much it is above (or, below 0, behind) the candidate that is compared with.
    """

    estimate: Estimate
    behind: Estimate


def figures_of(task: Task, *, with_probabilities: bool = True) -> tuple[Figure, ...]:
    """The figures of a task: the first is what candidates are ranked by."""
    return tuple(f for f in _FIGURES[task] if with_probabilities or not f.needs_probabilities)


def measure(
    candidates: Sequence[Sequence[Outcome]], figure: Figure, *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Measured]:
    """A figure of each candidate, with its interval and that of its difference to the best one.

    The interval is that of the percentiles (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
    chapter 13).

    Args:
        candidates: For each candidate its predictions of the same images in the same order: one `Outcome` per
            repetition, over which the figure is averaged.
        figure: Of `figures_of`.
        seed: Of the resamples.
        resamples: How many.
    """
    prepared = [[figure.of(outcome) for outcome in outcomes] for outcomes in candidates]
    images = len(candidates[0][0].hits)
    values = _values(prepared, np.ones((1, images), np.float32))[0]
    drawn = np.concatenate([_values(prepared, block) for block in _resampled(images, resamples, seed)])
    best = int(np.nanargmax(values)) if not np.isnan(values).all() else 0
    return [
        Measured(
            _estimate(values[place], drawn[:, place]),
            _estimate(values[place] - values[best], drawn[:, place] - drawn[:, best]),
        )
        for place in range(len(candidates))
    ]


def _values(prepared: Sequence[Sequence[Statistic]], weights: np.ndarray) -> np.ndarray:
    """(B, candidates)."""
    means = [np.mean([statistic(weights) for statistic in each], axis=0) for each in prepared]
    return np.stack(means, axis=1)


def _resampled(images: int, resamples: int, seed: int) -> Any:
    """How often each image was drawn: blocks of (B, N) float32, `resamples` rows in all."""
    random = np.random.default_rng(seed)
    rows = max(1, _BLOCK // max(images, 1))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = random.integers(images, size=(count, images))
        drawn += np.arange(count)[:, None] * images
        counts = np.bincount(drawn.ravel(), minlength=count * images)
        yield counts.reshape(count, images).astype(np.float32)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Estimate(float(value), np.nan, np.nan)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(known, (tail, 1 - tail))
    return Estimate(float(value), float(low), float(high))


def _share_of_hits(outcome: Outcome) -> Statistic:
    hits = outcome.hits.astype(np.float64)
    return lambda weights: weights @ hits / weights.sum(axis=1, dtype=np.float64)


def _mean_of_classes(
    of_class: Callable[[np.ndarray, np.ndarray], Statistic],
) -> Callable[[Outcome], Statistic]:
    def of(outcome: Outcome) -> Statistic:
        assert outcome.probabilities is not None
        pairs = zip(outcome.labels.T.astype(bool), outcome.probabilities.T, strict=True)
        classes = [of_class(has, probabilities) for has, probabilities in pairs if has.any()]
        return lambda weights: _mean_of_defined([statistic(weights) for statistic in classes], len(weights))

    return of


def _mean_of_defined(values: Sequence[np.ndarray], count: int) -> np.ndarray:
    stacked = np.array(values).reshape(-1, count)
    defined = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.where(defined, stacked, 0).sum(axis=0) / defined.sum(axis=0)
    return means


def _auroc(has_class: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """Area under the ROC curve: the share of pairs in order, those of equal probability by half."""
    order, first, last = _ties(probabilities)
    targets = has_class[order]

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order].astype(np.float64)
        below = _cumulated(drawn * ~targets)
        positives = drawn * targets
        pairs = positives.sum(axis=1) * below[:, -1]
        with np.errstate(invalid="ignore"):
            areas: np.ndarray = (positives * (below[:, first] + below[:, last]) / 2).sum(axis=1) / pairs
        return areas

    return statistic


def _average_precision(has_class: np.ndarray, probabilities: np.ndarray) -> Statistic:
    """The mean over the images with the class of the precision at their probability."""
    order, _, last = _ties(-probabilities)
    targets = has_class[order]

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order].astype(np.float64)
        positives = drawn * targets
        found, all_found = _cumulated(positives)[:, last], _cumulated(drawn)[:, last]
        precision = found / np.maximum(all_found, 1)
        with np.errstate(invalid="ignore"):
            scores: np.ndarray = (positives * precision).sum(axis=1) / positives.sum(axis=1)
        return scores

    return statistic


def _ties(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of rising values; for each place in it, where its equals begin, and where they have ended."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.searchsorted(ordered, ordered, "left"), np.searchsorted(ordered, ordered, "right")


def _cumulated(values: np.ndarray) -> np.ndarray:
    """(B, N) -> (B, N + 1): the sums of the first 0, 1, ... N."""
    return np.pad(values.cumsum(axis=1), ((0, 0), (1, 0)))


_FIGURES: Mapping[Task, tuple[Figure, ...]] = {
    ONE_LABEL: (Figure("accuracy", "accuracy", _share_of_hits),),
    SEVERAL_LABELS: (
        Figure("mean_auroc", "mean AUROC", _mean_of_classes(_auroc), needs_probabilities=True),
        Figure(
            "mean_average_precision", "mAP", _mean_of_classes(_average_precision), needs_probabilities=True
        ),
        Figure("exact_match", "exact match", _share_of_hits),
    ),
}


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two classifiers on the same images: do they err equally often?

    Attributes:
        only_first: Images that only the first has right.
        only_second: Images that only the second has right.
        p: How often chance alone makes two equally good classifiers differ so much.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Test whether two classifiers err equally often on the same images.

    Of equally good classifiers, each image that just one of them has right is as likely the one's as the
    other's: a binomial distribution (McNemar, Psychometrika 12, 1947). The p-value is the mid-p, which counts
    the observed split by half: unlike the exact test it is not too cautious, and unlike chi-squared right
    for few images too (Fagerland, Lydersen & Laake, BMC Medical Research Methodology 13:91, 2013).

    Args:
        first: (N,) bool, whether the first has an image right.
        second: (N,) bool of the second.
    """
    from scipy.stats import binom

    ours, theirs = int((first & ~second).sum()), int((second & ~first).sum())
    fewer, both = min(ours, theirs), ours + theirs
    p = 2 * binom.cdf(fewer, both, 0.5) - binom.pmf(fewer, both, 0.5) if both else 1.0
    return McNemar(ours, theirs, float(min(p, 1.0)))

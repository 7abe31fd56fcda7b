"""Several predictions of the same images: how far apart are they, and by how much could that be chance.

Every candidate is judged on the same resamples of the images (paired bootstrap), so that what makes all of
them better or worse cancels out of a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastcls.evaluation.intervals import LEVEL, Ranked, draws, mean_of_known
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task


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


# How often each image counts, (N, draws) -> a figure of each draw, (draws,); NaN where it is undefined.
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
        alike: Place of the first candidate whose figure is the same in each draw of the images: this one ties
            with it, if it is another.
    """

    estimate: Estimate
    behind: Estimate
    alike: int


def figures_of(task: Task, *, with_probabilities: bool = True) -> tuple[Figure, ...]:
    """The figures of a task: the first is what candidates are ranked by."""
    return tuple(f for f in _FIGURES[task] if with_probabilities or not f.needs_probabilities)


def measure(candidates: Sequence[Sequence[Outcome]], figure: Figure) -> list[Measured]:
    """A figure of each candidate, with its interval and that of its difference to the best one.

    The draws of images, and so the intervals, are those of `fastcls.evaluation.intervals`.

    Args:
        candidates: For each candidate its predictions of the same images in the same order: one `Outcome` per
            repetition, over which the figure is averaged.
        figure: Of `figures_of`.
    """
    prepared = [[figure.of(outcome) for outcome in outcomes] for outcomes in candidates]
    images = len(candidates[0][0].hits)
    values = _values(prepared, np.ones((images, 1)))[:, 0]
    drawn = np.concatenate([_values(prepared, weights) for weights in draws(images)], axis=1)
    best = int(np.nanargmax(values)) if not np.isnan(values).all() else 0
    return [
        Measured(
            _estimate(values[place], drawn[place]),
            _estimate(values[place] - values[best], drawn[place] - drawn[best]),
            next(n for n in range(place + 1) if np.array_equal(drawn[n], drawn[place], equal_nan=True)),
        )
        for place in range(len(candidates))
    ]


def ranks_of(ranked: Sequence[Measured]) -> list[int]:
    """The rank of each candidate, the best first: those that tie share one."""
    ranks: dict[int, int] = {}
    return [ranks.setdefault(own.alike, place) for place, own in enumerate(ranked, 1)]


def ties_in_words(ranked: Mapping[str, Measured], title: str) -> list[str]:
    """A sentence for each group of candidates that tie.

    Args:
        ranked: By their names.
        title: Of the figure.
    """
    groups: dict[int, list[str]] = {}
    for name, own in ranked.items():
        groups.setdefault(own.alike, []).append(name)
    return [
        f"{', '.join(names)} tie: the {title} is the same on any choice of these images"
        for names in groups.values()
        if len(names) > 1
    ]


def value_of(outcome: Outcome, figure: Figure) -> float:
    """A figure of predictions."""
    return float(figure.of(outcome)(np.ones((len(outcome.hits), 1)))[0])


def _values(prepared: Sequence[Sequence[Statistic]], weights: np.ndarray) -> np.ndarray:
    """(candidates, draws)."""
    return np.stack([np.mean([statistic(weights) for statistic in each], axis=0) for each in prepared])


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Estimate(float(value), np.nan, np.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


def _share_of_hits(outcome: Outcome) -> Statistic:
    hits = outcome.hits.astype(np.float64)
    return lambda weights: hits @ weights / weights.sum(axis=0)


def _mean_of_classes(number: int) -> Callable[[Outcome], Statistic]:
    """The mean over the classes that have it of a figure of `Ranked`, by its place there."""

    def of(outcome: Outcome) -> Statistic:
        assert outcome.probabilities is not None
        pairs = zip(outcome.labels.T.astype(bool), outcome.probabilities.T, strict=True)
        classes = [Ranked.of(has, probabilities) for has, probabilities in pairs if has.any()]
        return lambda weights: mean_of_known(np.array([own.figures(weights)[number] for own in classes]))

    return of


_FIGURES: Mapping[Task, tuple[Figure, ...]] = {
    ONE_LABEL: (Figure("accuracy", "accuracy", _share_of_hits),),
    SEVERAL_LABELS: (
        Figure("mean_auroc", "mean AUROC", _mean_of_classes(0), needs_probabilities=True),
        Figure("mean_average_precision", "mAP", _mean_of_classes(1), needs_probabilities=True),
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

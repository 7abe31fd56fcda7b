"""How each image moves the figures of classes: their derivatives by the weight of the image.

To first order the figure of images that were drawn w times each is the figure of all, plus the sum of w
times these derivatives: the infinitesimal jackknife (Efron, 1982, chapter 6). It takes one look at each
class, whatever the number of draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fastcls.evaluation.ranked import columns_of

_SCORES = ("precision", "recall", "f1")
_COUNTED = tuple(f"{average}_{name}" for name in _SCORES for average in ("macro", "weighted", "micro"))
CLASS_FIGURES = (*_COUNTED, "mean_auroc", "mean_average_precision")


def influences(
    has: Callable[[int], np.ndarray], found: Callable[[int], np.ndarray], scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The averages of the figures of classes, and how each image moves them.

    Args:
        has: Which images have the class of a label, (N,) bool.
        found: Which were predicted to have it, (N,) bool.
        scores: (N, C).

    Returns:
        The `CLASS_FIGURES`: (F,) float64, NaN where undefined; and (F, N) float64, which sum to 0 over
        the images.
    """
    images = len(scores)
    sums = {name: _Sum(images) for name in CLASS_FIGURES}
    pooled = np.zeros((3, images))  # hits, classes that an image has, and that were found
    for label, column in enumerate(columns_of(scores)):
        own, said = has(label), found(label)
        pooled += [own & said, own, said]
        if own.any():
            for name, value, moves in _of_class(own, said, column):
                sums[name].add(value, moves)
    for name, (part, whole) in zip(_SCORES, _fractions(*pooled), strict=True):
        sums[f"micro_{name}"].add(*_ratio(part, whole))
    for name in _SCORES:
        average = sums[f"weighted_{name}"]
        average.divide(pooled[1])
    return np.array([one.value for one in sums.values()]), np.array([one.moves for one in sums.values()])


class _Sum:
    """A mean over classes that grows, with the derivatives of it."""

    def __init__(self, images: int) -> None:
        self._count, self._value, self._moves = 0, 0.0, np.zeros(images)

    def add(self, value: float, moves: np.ndarray) -> None:
        self._count, self._value = self._count + 1, self._value + value
        self._moves += moves

    def divide(self, weights: np.ndarray) -> None:
        """Make it the sum over the total of some weights of the images."""
        total = weights.sum()
        if total:
            self._moves = (self._moves - self._value / total * weights) / total
            self._value, self._count = self._value / total, 1

    @property
    def value(self) -> float:
        return self._value / self._count if self._count else np.nan

    @property
    def moves(self) -> np.ndarray:
        return self._moves / max(self._count, 1)


def _of_class(
    own: np.ndarray, said: np.ndarray, scores: np.ndarray
) -> Iterator[tuple[str, float, np.ndarray]]:
    support = np.count_nonzero(own)
    parts = (own & said).astype(np.float64), own.astype(np.float64), said.astype(np.float64)
    for name, pair in zip(_SCORES, _fractions(*parts), strict=True):
        value, moves = _ratio(*pair)
        yield f"macro_{name}", value, moves
        yield f"weighted_{name}", value * support, moves * support + value * own
    area, precision = _rank(own, scores)
    if support < len(own):
        yield "mean_auroc", *area
    yield "mean_average_precision", *precision


def _fractions(hits: np.ndarray, own: np.ndarray, said: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is divided by what, image by image, for precision, recall and F1 score."""
    return [(hits, said), (hits, own), (2 * hits, own + said)]


def _ratio(part: np.ndarray, whole: np.ndarray) -> tuple[float, np.ndarray]:
    total = max(float(whole.sum()), 1.0)
    value = float(part.sum()) / total
    return value, (part - value * whole) / total


def _rank(own: np.ndarray, scores: np.ndarray) -> tuple[tuple[float, np.ndarray], tuple[float, np.ndarray]]:
    """AUROC and average precision of a class, with their derivatives; see `class_ranking`."""
    order = np.argsort(-scores)
    falling, has = -scores[order], own[order]
    is_first = np.r_[True, falling[1:] != falling[:-1]]
    tie = is_first.cumsum() - 1
    first = np.flatnonzero(is_first)
    at_least = np.r_[first[1:], len(own)]  # of each group of equal scores: how many score so, or higher
    own_at_least = has.cumsum()[at_least - 1]
    having, others = int(own_at_least[-1]), len(own) - int(own_at_least[-1])
    own_here = np.diff(own_at_least, prepend=0)
    ahead = at_least - own_at_least - np.diff(at_least - own_at_least, prepend=0) / 2
    below = np.where(has, 1 - ahead[tie] / max(others, 1), (own_at_least - own_here / 2)[tie] / having)
    area = float(below[has].mean())
    area_moves = (below - area) / np.where(has, having, max(others, 1))
    precision = own_at_least / at_least
    mean = float((own_here * precision).sum() / having)
    # An image moves the precision at its own score and at all lower ones.
    lifts, falls = (_until_end(own_here * part / at_least) for part in (1.0, precision))
    moves = (has * (precision[tie] - mean + lifts[tie]) - falls[tie]) / having
    return (area, _unsorted(area_moves, order)), (mean, _unsorted(moves, order))


def _until_end(values: np.ndarray) -> np.ndarray:
    sums: np.ndarray = values[::-1].cumsum()[::-1]
    return sums


def _unsorted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    placed = np.empty_like(values)
    placed[order] = values
    return placed

"""How each image moves the figures of classes: their derivatives by the weight of the image.

To first order the figure of images that were drawn w times each is the figure of all, plus the sum of w
times these derivatives: the infinitesimal jackknife (Efron, 1982, chapter 6). It takes one look at each
class, whatever the number of draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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
        own, said = np.flatnonzero(has(label)), np.flatnonzero(found(label))
        hits = np.intersect1d(own, said, assume_unique=True)
        for counts, places in zip(pooled, (hits, own, said), strict=True):
            counts[places] += 1
        if len(own):
            _add_counted(sums, hits, own, said)
            _add_ranked(sums, own, column)
    for name, (part, whole) in zip(_SCORES, _fractions(*pooled), strict=True):
        total = max(float(whole.sum()), 1.0)
        value = float(part.sum()) / total
        sums[f"micro_{name}"].add(value, (part - value * whole) / total)
        sums[f"weighted_{name}"].divide(pooled[1])
    return np.array([one.value for one in sums.values()]), np.array([one.moves for one in sums.values()])


class _Sum:
    """A mean over classes that grows, with the derivatives of it."""

    def __init__(self, images: int) -> None:
        self._count, self._value, self._moves = 0, 0.0, np.zeros(images)

    def add(self, value: float, moves: np.ndarray | float = 0.0) -> None:
        self._count, self._value = self._count + 1, self._value + value
        self._moves += moves

    def move(self, places: np.ndarray, moves: np.ndarray | float) -> None:
        """Add derivatives of some images, each at most once."""
        self._moves[places] += moves

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


def _fractions(hits: Any, own: Any, said: Any) -> list[tuple[Any, Any]]:
    """What is divided by what for precision, recall and F1 score."""
    return [(hits, said), (hits, own), (2 * hits, own + said)]


def _add_counted(sums: Mapping[str, _Sum], hits: np.ndarray, own: np.ndarray, said: np.ndarray) -> None:
    """Add the scores of a class by the places of its images."""
    # Of the fraction part / whole: how often an image counts in the part, and in which places in the whole.
    parts = {"precision": (1, (said,)), "recall": (1, (own,)), "f1": (2, (own, said))}
    for name, (times, wholes) in parts.items():
        total = max(sum(map(len, wholes)), 1)
        value = times * len(hits) / total
        macro, weighted = sums[f"macro_{name}"], sums[f"weighted_{name}"]
        macro.add(value)
        weighted.add(value * len(own))
        weighted.move(own, value)
        for places, step in [(hits, times / total), *((whole, -value / total) for whole in wholes)]:
            macro.move(places, step)
            weighted.move(places, step * len(own))


def _add_ranked(sums: Mapping[str, _Sum], own: np.ndarray, scores: np.ndarray) -> None:
    """Add AUROC and average precision of a class; see `class_ranking`."""
    images, having, others = len(scores), len(own), len(scores) - len(own)
    rising, every = np.sort(scores[own]), np.sort(scores)
    at_least, above = (images - np.searchsorted(every, rising, side) for side in ("left", "right"))
    own_at_least, own_above = (having - np.searchsorted(rising, rising, side) for side in ("left", "right"))
    lower, upto = _own_below(rising, scores)
    if others:
        ahead = (at_least - own_at_least + above - own_above) / 2
        area = 1 - float(ahead.mean()) / others
        moves = (1 - area - (lower + upto) / (2 * having)) / others
        moves[own] = (1 - area - ahead[lower[own]] / others) / having
        sums["mean_auroc"].add(area, moves)
    precision = own_at_least / at_least
    mean = float(precision.mean())
    # An image moves the precision at its own score and at all lower ones.
    lifts, falls = (np.r_[0, (part / at_least).cumsum()] for part in (1.0, precision))
    sums["mean_average_precision"].add(mean, -falls[upto] / having)
    lifted = precision[lower[own]] - mean + lifts[upto[own]]
    sums["mean_average_precision"].move(own, lifted / having)


def _own_below(rising: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of some rising scores are below, and at most, each of others."""
    lower = np.searchsorted(rising, scores)
    upto = lower.copy()
    is_equal = rising[np.minimum(lower, len(rising) - 1)] == scores
    upto[is_equal] = np.searchsorted(rising, scores[is_equal], "right")
    return lower, upto

"""What a confidence threshold costs and brings: how many images get an answer, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcls.evaluation.text_table import format_table

CHOSEN = (0.5, 0.7, 0.9, 0.95, 0.99)
_ROWS = 1000
_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Coverage:
    """The predictions that remain where only classes of at least a probability are predicted.

    An image is covered where any class remains.

    Attributes:
        thresholds: (T,) float64, rising.
        images: (T,) int64, how many images are covered.
        coverage: (T,) float64, their share.
        precision: (T,) float64, the share of the remaining predictions that is right; NaN where none remains.
        recall: (T,) float64, the share of all true classes that is predicted; NaN where no image has a class.
        exact: (T,) float64, the share of the covered images of which all is right; NaN where none is covered.
            Of one label per image, the precision.
    """

    thresholds: np.ndarray
    images: np.ndarray
    coverage: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    exact: np.ndarray

    def rows(self, exact: str) -> list[list[Any]]:
        """The curve as a table with its header.

        Args:
            exact: What `exact` is called.
        """
        columns = (self.thresholds, self.coverage, self.precision, self.recall, self.exact)
        lines = zip(*(map(_text, column) for column in columns), self.images.tolist(), strict=True)
        return [["threshold", "coverage", "precision", "recall", exact, "images"], *map(list, lines)]

    def table(self) -> str:
        """The curve as text."""
        rows = [["threshold", "images", "coverage", "precision", "recall"]]
        for place, threshold in enumerate(self.thresholds):
            shares = (values[place] for values in (self.coverage, self.precision, self.recall))
            texts = ("-" if np.isnan(share) else f"{share:.3f}" for share in shares)
            rows.append([f"{threshold:.2f}", f"{self.images[place]:,}", *texts])
        return format_table(rows)


def thresholds_of(values: np.ndarray) -> np.ndarray:
    """At most 1,000 thresholds at which the curve changes, rising: evenly spaced over some probabilities."""
    scale = 10.0**_DECIMALS
    ordered = np.sort(np.floor(values.astype(np.float64).ravel() * scale) / scale)
    places = np.linspace(0, len(ordered) - 1, min(_ROWS, len(ordered))).round().astype(np.int64)
    return np.unique(ordered[places])


def cover(confidence: np.ndarray, is_right: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> Coverage:
    """The curve of predictions of one class per image.

    Args:
        confidence: (N,) probabilities of the predicted classes.
        is_right: (N,) bool.
        thresholds: Rising.
    """
    thresholds = np.asarray(thresholds, np.float64)
    images, right = _reaching(confidence, thresholds), _reaching(confidence[is_right], thresholds)
    precision = _share(right, images)
    total = len(confidence)
    return Coverage(thresholds, images, images / total, precision, right / total, precision)


def cover_several(
    targets: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float] | np.ndarray
) -> Coverage:
    """The curve of predictions of any number of classes per image, with one threshold for all classes.

    Args:
        targets: (N, C) bool.
        probabilities: (N, C).
        thresholds: Rising.
    """
    thresholds = np.asarray(thresholds, np.float64)
    images, found, hits, exact = np.zeros((4, len(thresholds)), np.int64)
    for part in row_blocks(probabilities):
        has, values = targets[part], probabilities[part].astype(np.float64)
        images += _reaching(values.max(axis=1), thresholds)
        found += _reaching(values, thresholds)
        hits += _reaching(values[has], thresholds)
        exact += _exact(has, values, thresholds)
    recall = _share(hits, np.full_like(hits, np.count_nonzero(targets)))
    shares = _share(hits, found), recall, _share(exact, images)
    return Coverage(thresholds, images, images / len(targets), *shares)


def row_blocks(values: np.ndarray) -> Iterator[slice]:
    """Slices of the rows of a matrix, of about a million numbers each."""
    step = max(1, (1 << 20) // values.shape[1])
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _exact(has: np.ndarray, values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many images with a class have all of these, and no other class, predicted at each threshold."""
    has, values = has[has.any(axis=1)], values[has.any(axis=1)]
    least = np.where(has, values, np.inf).min(axis=1)
    highest_other = np.where(has, -np.inf, values).max(axis=1)
    is_split = least > highest_other
    return _reaching(least[is_split], thresholds) - _reaching(highest_other[is_split], thresholds)


def _reaching(values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many of some values reach each threshold."""
    ordered = np.sort(values, axis=None)
    return ordered.size - np.searchsorted(ordered.astype(np.float64, copy=False), thresholds)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _text(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.{_DECIMALS}f}"

"""Figures of how well scores rank images, each class against the others, for any threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

_COLUMNS = 64  # of a matrix that are made contiguous at once


def class_auroc(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class, (C,) float64; NaN where all images or none have the class.

    Args:
        targets: (N, C) of 0 and 1.
        scores: (N, C).
    """
    return class_ranking([np.flatnonzero(column) for column in targets.T], scores)[0]


def class_ranking(having: Sequence[np.ndarray], scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve, and average precision, of each class.

    The area is the chance that an image with the class has a higher score than one without it; equal scores
    count half (Fawcett, 2006). The average precision is the mean, over the images with the class, of the
    precision among the images that score at least as high. Both equal those of scikit-learn.

    Args:
        having: For each of the C classes, the places of the images that have it.
        scores: (N, C).

    Returns:
        (C,) float64 each. The area is NaN where all images or none have the class, the average precision
        where none does.
    """
    areas, precisions = np.full((2, len(having)), np.nan)
    for label, column in enumerate(columns_of(scores)):
        if len(having[label]):
            areas[label], precisions[label] = _rank(column, np.sort(column[having[label]]))
    return areas, precisions


def columns_of(scores: np.ndarray) -> Iterator[np.ndarray]:
    """The columns of a matrix, each in one piece of memory."""
    for start in range(0, scores.shape[1], _COLUMNS):
        yield from np.ascontiguousarray(scores[:, start : start + _COLUMNS].T)


def _rank(scores: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """Both figures of a class by the scores of all images, and the rising ones of those that have it."""
    every = np.sort(scores)
    at_least, above = (len(every) - np.searchsorted(every, own, side) for side in ("left", "right"))
    own_at_least, own_above = (len(own) - np.searchsorted(own, own, side) for side in ("left", "right"))
    others = len(every) - len(own)
    ahead = (at_least - own_at_least + above - own_above) / 2  # without the class; half of equal scores
    area = 1 - ahead.mean() / others if others else np.nan
    return area, (own_at_least / at_least).mean()

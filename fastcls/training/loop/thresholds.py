"""The probability that a class must reach to be predicted, chosen on validation rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcls.errors import OptionError
from fastcls.tasks import DEFAULT_THRESHOLD
from fastcls.training.loop.validation import predictor
from fastcls.training.rows.cached import Feed
from fastcls.wording import some_of

logger = logging.getLogger(__name__)


def no_thresholds(
    model: Any, read_val: Callable[[], Feed | None], kind: str | float | None, class_names: Sequence[str]
) -> None:
    """None: the most probable class is predicted."""


def find_thresholds(
    model: Any, read_val: Callable[[], Feed | None], kind: str | float | None, class_names: Sequence[str]
) -> tuple[float, ...]:
    """The thresholds of a trained model, chosen on what it was validated on.

    Args:
        model: Inputs -> probabilities (B, C).
        read_val: Returns what it was validated on; without that, each class gets the given threshold, or 0.5.
        kind: See `choose_thresholds`, or a number; None for "single".
        class_names: The C classes.

    Raises:
        OptionError: There is nothing to choose on.
    """
    val = read_val()
    kind = kind or ("single" if val else DEFAULT_THRESHOLD)
    if not isinstance(kind, str):
        return (kind,) * len(class_names)
    if val is None:
        raise OptionError(f"--threshold {kind} needs validation images, and there are none")
    targets, probabilities = predictor(model, val)()
    return choose_thresholds(kind, targets, probabilities, class_names)


def choose_thresholds(
    kind: str, targets: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> tuple[float, ...]:
    """One threshold per class.

    Args:
        kind: "single" for the one, the same for all classes, with the most exact matches: images whose
            predicted classes are their classes; "per-class" for those of the highest F1 of each class.
        targets: (N, C) of 0 and 1.
        probabilities: (N, C), of the same rows.
        class_names: The C classes.

    Returns:
        C thresholds above 0 and at most 1. A class is predicted where its probability is not lower.
    """
    if kind == "single":
        return (best_single(targets, probabilities),) * len(class_names)
    absent = [class_names[label] for label in np.flatnonzero(targets.sum(axis=0) == 0).tolist()]
    if absent:
        logger.warning(
            "No validation image has the class %s: using threshold %s", some_of(absent), DEFAULT_THRESHOLD
        )
    columns = zip(targets.T, probabilities.T, strict=True)
    return tuple(best_f1(target, scores) if target.any() else DEFAULT_THRESHOLD for target, scores in columns)


def best_single(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The threshold with the most exact matches; of equals the middle of the range nearest to 0.5.

    An image matches for thresholds above the highest probability of a class that it does not have, up to the
    lowest of those that it has: the most ranges (low, high] that overlap are found by one sort.
    """
    has = targets.astype(bool)
    scores = probabilities.astype(np.float64)
    low = np.where(has, 0.0, scores).max(axis=1)
    high = np.where(has, scores, 1.0).min(axis=1)
    possible = low < high
    edges = np.unique(np.concatenate([[0.0, 1.0], low[possible], high[possible]]))
    starts = np.searchsorted(edges, low[possible])
    ends = np.searchsorted(edges, high[possible])
    changes = np.bincount(starts, minlength=len(edges)) - np.bincount(ends, minlength=len(edges))
    return _middle(edges, np.cumsum(changes)[:-1])


def best_f1(target: np.ndarray, scores: np.ndarray) -> float:
    """The threshold of the highest F1 of one class; of equals the middle of the range nearest to 0.5."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, found = precision_recall_curve(target, scores.astype(np.float64))
    precision, recall = precision[:-1], recall[:-1]  # the last is of no threshold
    sums = precision + recall
    f1 = np.divide(2 * precision * recall, sums, out=np.zeros_like(sums), where=sums > 0)
    edges = np.unique(np.concatenate([[0.0], found, [1.0]]))
    # Thresholds in (edge before, found] predict the same; above the highest score, nothing is predicted.
    quality = np.zeros(len(edges) - 1)
    places = np.searchsorted(edges, found)
    quality[places[places > 0] - 1] = f1[places > 0]
    return _middle(edges, quality)


def _middle(edges: np.ndarray, quality: np.ndarray) -> float:
    """The middle of the best range between neighboring edges, and so no score of any image."""
    middles = (edges[:-1] + edges[1:]) / 2
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    return float(middles[best[np.abs(middles[best] - DEFAULT_THRESHOLD).argmin()]])

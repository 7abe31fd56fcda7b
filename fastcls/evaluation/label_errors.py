"""How likely the label of each image is wrong, and of which images it should be looked at.

Confident learning: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 2021. What is said of an image comes from a head that was not fitted on it, and from its
neighbors; docs/audit.md has what each of them finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

LABEL_ERROR, MISSING_LABEL, SUPERFLUOUS_LABEL = "label_error", "missing_label", "superfluous_label"


@dataclass(frozen=True, eq=False)
class Suspects:
    """How likely the labels of N images are wrong.

    Attributes:
        scores: (N,) float32 in 0 to 1, the higher the likelier.
        suggested: The class names that are likelier, by the place of each image that is listed.
        kinds: In which way its label is likely wrong, by the same.
    """

    scores: np.ndarray
    suggested: Mapping[int, tuple[str, ...]]
    kinds: Mapping[int, str]


FindSuspects = Callable[[np.ndarray, np.ndarray, Sequence[str]], Suspects]


def find_one_label(probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Suspects:
    """Those of images of one class each.

    Args:
        probabilities: (N, C) of images that were held out.
        labels: (N,) int64, the given ones.
        class_names: The C classes.
    """
    places = np.arange(len(labels))
    scores = 1 - probabilities[places, labels]
    likelier = probabilities.argmax(axis=1)
    listed = highest(scores, count_errors(probabilities, labels), likelier != labels)
    suggested = {place: (class_names[likelier[place]],) for place in listed.tolist()}
    return Suspects(scores.astype(np.float32), suggested, dict.fromkeys(suggested, LABEL_ERROR))


def find_several_labels(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Suspects:
    """Those of images of any number of classes: each class is looked at by itself.

    Args:
        probabilities: (N, C) of images that were held out.
        labels: (N, C) uint8, the given ones.
        class_names: The C classes.
    """
    has = labels.astype(bool)
    scores = np.where(has, 1 - probabilities, probabilities)
    is_listed = np.zeros(labels.shape, bool)
    for label in range(labels.shape[1]):
        states = np.stack([1 - probabilities[:, label], probabilities[:, label]], axis=1)
        count = count_errors(states, labels[:, label].astype(np.int64))
        is_listed[highest(scores[:, label], count, scores[:, label] > 0.5), label] = True
    suggested, kinds = {}, {}
    for place in np.flatnonzero(is_listed.any(axis=1)).tolist():
        changed = is_listed[place]
        likelier = np.flatnonzero(has[place] != changed)
        suggested[place] = tuple(class_names[label] for label in likelier.tolist())
        ways = {*has[place, changed].tolist()}
        kinds[place] = (
            LABEL_ERROR if len(ways) > 1 else SUPERFLUOUS_LABEL if ways == {True} else MISSING_LABEL
        )
    return Suspects(scores.max(axis=1).astype(np.float32), suggested, kinds)


SUSPECTS: dict[Task, FindSuspects] = {ONE_LABEL: find_one_label, SEVERAL_LABELS: find_several_labels}


def count_errors(probabilities: np.ndarray, labels: np.ndarray) -> int:
    """How many labels are wrong, by the confident joint (section 3.1 of the paper).

    An image counts for the likeliest class whose probability is at least what it is on average among the
    images of that class. Counts are scaled so that each given class has as many as there are images of it.

    Args:
        probabilities: (N, C).
        labels: (N,) int64.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = np.bincount(labels, probabilities[np.arange(len(labels)), labels], classes)
    thresholds = np.where(counts, own / np.maximum(counts, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    is_counted = confident.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[is_counted], confident[is_counted].argmax(axis=1)), 1)
    shares = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1)
    wrong = counts * np.where(joint.sum(axis=1) > 0, 1 - shares.diagonal(), 0)
    return round(float(wrong.sum()))


def highest(scores: np.ndarray, count: int, allowed: np.ndarray) -> np.ndarray:
    """Places of so many of the highest scores, the highest first, as far as they are allowed."""
    order = np.argsort(-scores, kind="stable")
    return order[allowed[order]][:count]

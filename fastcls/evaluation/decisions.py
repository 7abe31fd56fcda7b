"""Figures of decisions and confidences, the same for both tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastcls.evaluation.calibration import measure
from fastcls.tasks import Task
from fastcls.training.heads.links import LINKS

LOWER_IS_BETTER = "log_loss"
METRICS = ("accuracy", "precision", "recall", LOWER_IS_BETTER)


def figures_of_decisions(
    probabilities: np.ndarray,
    labels: np.ndarray,
    task: Task,
    thresholds: Sequence[float] | None,
    confidence: float,
) -> dict[str, float]:
    """Figures of predictions.

    Args:
        probabilities: (N, C).
        labels: The label array.
        task: What is asked of an image.
        thresholds: Of the classes.
        confidence: For coverage.

    Returns:
        accuracy: share of images whose predicted classes are their classes; precision and recall: means over
        the classes that images have (0 where nothing is predicted); log_loss; coverage: share of images whose
        most probable class has the confidence; covered_accuracy: accuracy of these, NaN where there are none.
    """
    classes = probabilities.shape[1]
    targets = LINKS[task].targets(labels, classes) > 0
    decided = decide(probabilities, task, thresholds)
    is_right = (decided == targets).all(axis=1)
    hits, given = (decided & targets).sum(axis=0), targets.sum(axis=0)
    occurring = given > 0
    precision = hits / np.maximum(decided.sum(axis=0), 1)
    recall = hits / np.maximum(given, 1)
    covered = probabilities.max(axis=1) >= confidence
    return {
        "accuracy": float(is_right.mean()),
        "precision": float(precision[occurring].mean()) if occurring.any() else 0.0,
        "recall": float(recall[occurring].mean()) if occurring.any() else 0.0,
        "log_loss": measure(probabilities, labels, task).log_loss,
        "coverage": float(covered.mean()),
        "covered_accuracy": float(is_right[covered].mean()) if covered.any() else float("nan"),
    }


def decide(probabilities: np.ndarray, task: Task, thresholds: Sequence[float] | None) -> np.ndarray:
    """Whether each class is predicted: (N, C) bool."""
    decided = np.zeros(probabilities.shape, bool)
    for place, row in enumerate(probabilities):
        decided[place, task.rank(row, thresholds)[: task.answers]] = True
    return decided

"""How the predictions of each task are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcls.evaluation import one_label, several_labels
from fastcls.evaluation.figures import Figures
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

# (path and names of the classes of each image, their label array, probabilities (N, C), class names,
# thresholds) -> figures, and a prediction per image.
Judge = Callable[
    [
        Sequence[tuple[str, tuple[str, ...]]],
        np.ndarray,
        np.ndarray,
        Sequence[str],
        Sequence[float] | None,
    ],
    tuple[Figures, tuple[Any, ...]],
]
JUDGES: dict[Task, Judge] = {ONE_LABEL: one_label.judge, SEVERAL_LABELS: several_labels.judge}
# What is told of predictions where few figures are: names as in `Figures.scores`, the main one first.
HEADLINES: dict[Task, dict[str, str]] = {
    ONE_LABEL: {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
        "log_loss": "log loss",
    },
    SEVERAL_LABELS: {
        "mean_auroc": "mean AUROC",
        "mean_average_precision": "mAP",
        "exact_match": "exact match",
        "log_loss": "log loss",
    },
}

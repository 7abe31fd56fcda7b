"""How the predictions of each task are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastcls.evaluation import one_label, several_labels
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task


class Figures(Protocol):
    """What is measured on predictions: the contract of `Evaluation` and `MultiLabelEvaluation`."""

    def table(self) -> str:
        """The figures as text."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as values that JSON can hold."""

    def class_dicts(self) -> list[dict[str, Any]]:
        """Those of each class."""

    def csv_tables(self) -> dict[str, list[list[Any]]]:
        """Rows of the tables that only this task has, by the name of their file."""

    def prediction_rows(self, predictions: Iterable[Any]) -> Iterable[list[Any]]:
        """A table of predictions, with its header."""

    def draw(self, path: Path) -> None:
        """Draw what was taken for what as a PNG file."""


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

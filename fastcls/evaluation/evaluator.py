"""Write an evaluation as a folder of files: scores, tables, a picture and a row per image."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.evaluation.metrics import Evaluation
from fastcls.evaluation.pictures import draw_confusion


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted for one image of known class.

    Attributes:
        path: POSIX path relative to the dataset's root.
        class_name: The true class.
        predicted: The most probable class.
        confidence: Its probability.
    """

    path: str
    class_name: str
    predicted: str
    confidence: float

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.predicted == self.class_name


def write_evaluation(evaluation: Evaluation, predictions: Iterable[Prediction], folder: Path) -> None:
    """Write metrics.json, per_class.csv, confusion.csv, confusion.png and predictions.csv into a folder.

    Args:
        evaluation: What `evaluate` returned.
        predictions: A row of predictions.csv each, in this order.
        folder: Made if missing. Older files of these names are replaced.
    """
    class_rows = evaluation.class_dicts()
    files.write_json(folder / "metrics.json", evaluation.to_dict())
    _write_csv(folder / "per_class.csv", [list(class_rows[0]), *(row.values() for row in class_rows)])
    _write_csv(folder / "confusion.csv", _confusion_rows(evaluation))
    _write_csv(folder / "predictions.csv", _prediction_rows(predictions))
    draw_confusion(evaluation.confusion, evaluation.class_names, folder / "confusion.png")


def _confusion_rows(evaluation: Evaluation) -> Iterable[Iterable[Any]]:
    yield ["true \\ predicted", *evaluation.class_names]
    for name, row in zip(evaluation.class_names, evaluation.confusion.tolist(), strict=True):
        yield [name, *row]


def _prediction_rows(predictions: Iterable[Prediction]) -> Iterable[Iterable[Any]]:
    yield ["path", "label", "predicted", "confidence", "correct"]
    for row in predictions:
        yield [row.path, row.class_name, row.predicted, f"{row.confidence:.6f}", str(row.correct).lower()]


def _write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    files.write_text(path, text.getvalue())

"""Write an evaluation as a folder of files: scores, tables, a picture and a row per image."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.evaluation.metrics import Evaluation
from fastcls.evaluation.multilabel import MultiLabelEvaluation
from fastcls.evaluation.pictures import draw_confusion, draw_found
from fastcls.runs import METRICS

PREDICTIONS = "predictions.csv"


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


@dataclass(frozen=True, slots=True)
class MultiLabelPrediction:
    """What was predicted for one image of known classes.

    Attributes:
        path: POSIX path relative to the dataset's root.
        class_names: The true classes.
        predicted: The classes with at least their threshold.
        probabilities: One per class of the classifier.
    """

    path: str
    class_names: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: tuple[float, ...]


def write_evaluation(
    evaluation: Evaluation,
    predictions: Iterable[Prediction],
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write metrics.json, per_class.csv, confusion.csv, confusion.png and predictions.csv into a folder.

    Args:
        evaluation: What `evaluate` returned.
        predictions: A row of predictions.csv each, in this order.
        folder: Made if missing. Older files of these names are replaced.
        about: What else metrics.json is to hold, JSON-able.
    """
    class_rows = evaluation.class_dicts()
    files.write_json(folder / METRICS, {**evaluation.to_dict(), **(about or {})})
    _write_csv(folder / "per_class.csv", [list(class_rows[0]), *(row.values() for row in class_rows)])
    _write_csv(folder / "confusion.csv", _confusion_rows(evaluation))
    _write_csv(folder / PREDICTIONS, _prediction_rows(predictions))
    draw_confusion(evaluation.confusion, evaluation.class_names, folder / "confusion.png")


def write_multi_label_evaluation(
    evaluation: MultiLabelEvaluation,
    predictions: Iterable[MultiLabelPrediction],
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write metrics.json, per_class.csv, confusion.png and predictions.csv into a folder.

    Lists of names in predictions.csv are JSON arrays; the confidences follow in a column per class.

    Args:
        evaluation: What `evaluate_multi_label` returned.
        predictions: A row of predictions.csv each, in this order.
        folder: Made if missing. Older files of these names are replaced.
        about: What else metrics.json is to hold, JSON-able.
    """
    class_rows = evaluation.class_dicts()
    files.write_json(folder / METRICS, {**evaluation.to_dict(), **(about or {})})
    values = ([_or_dash(value) for value in row.values()] for row in class_rows)
    _write_csv(folder / "per_class.csv", [list(class_rows[0]), *values])
    _write_csv(folder / PREDICTIONS, _multi_label_rows(evaluation.class_names, predictions))
    draw_found(evaluation.confusion, evaluation.class_names, folder / "confusion.png")


def _or_dash(value: Any) -> Any:
    return "-" if value is None else value


def _multi_label_rows(
    class_names: Iterable[str], predictions: Iterable[MultiLabelPrediction]
) -> Iterable[Iterable[Any]]:
    yield ["path", "labels", "predicted", *class_names]
    for row in predictions:
        named = [json.dumps(names, ensure_ascii=False) for names in (row.class_names, row.predicted)]
        yield [row.path, *named, *(f"{value:.6f}" for value in row.probabilities)]


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

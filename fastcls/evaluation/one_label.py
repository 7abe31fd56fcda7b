"""What is measured on predictions of one class per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcls.errors import DataError
from fastcls.evaluation.arrays import as_numbers
from fastcls.evaluation.pictures import draw_confusion
from fastcls.evaluation.text_table import format_table, shorten, text_width
from fastcls.optional import frame
from fastcls.wording import count_of

if TYPE_CHECKING:
    import pandas

_NAME_COLUMNS = 40
_CONFUSION_TABLE_CLASSES = 20
_CONFUSED_PAIRS = 20
_TERMINAL_COLUMNS = 80


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


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How well the classes of some images were predicted.

    A class's score is 0 where it is undefined: nothing was predicted as the class, or no image has it.
    The macro averages are over the classes that images have.

    Attributes:
        class_names: The C classes, in label order.
        confusion: (C, C) int64, [true, predicted].
        precision: (C,) float64.
        recall: (C,) float64.
        f1: (C,) float64.
        support: (C,) int64, how many images have the class.
        top_k: The k asked for, at most C.
        top_k_accuracy: The share of images whose class is among the k most probable: 1 when k is C.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    top_k: int
    top_k_accuracy: float

    def __repr__(self) -> str:
        return f"<Evaluation of {count_of(len(self.class_names), 'class')}: {_totals(self)}>"

    @property
    def image_count(self) -> int:
        """How many images were evaluated."""
        return int(self.confusion.sum())

    @property
    def correct_count(self) -> int:
        """How many images were predicted right."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """The share of images that were predicted right."""
        return self.correct_count / self.image_count

    @property
    def macro_precision(self) -> float:
        """Mean precision of the classes that images have."""
        return self._macro(self.precision)

    @property
    def macro_recall(self) -> float:
        """Mean recall of the classes that images have."""
        return self._macro(self.recall)

    @property
    def macro_f1(self) -> float:
        """Mean F1 score of the classes that images have."""
        return self._macro(self.f1)

    def table(self) -> str:
        """The evaluation as text: a row per class, the confusion matrix, and the totals."""
        return "\n\n".join([_class_table(self), _confusion_text(self), _totals(self)])

    def to_dict(self) -> dict[str, Any]:
        """All scores, without the confusion matrix, as values that JSON can hold."""
        return {
            "images": self.image_count,
            "accuracy": self.accuracy,
            "top_k": self.top_k,
            "top_k_accuracy": self.top_k_accuracy,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "classes": self.class_dicts(),
        }

    def to_frame(self) -> pandas.DataFrame:
        """A row per class, as `class_dicts` has them.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        rows = self.class_dicts()
        return frame((list(row.values()) for row in rows), list(rows[0]))

    def class_dicts(self) -> list[dict[str, Any]]:
        """The name, the scores and the support of each class."""
        columns = {
            "class_name": self.class_names,
            "precision": self.precision.tolist(),
            "recall": self.recall.tolist(),
            "f1": self.f1.tolist(),
            "support": self.support.tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def csv_tables(self) -> dict[str, list[list[Any]]]:
        """Rows of the tables that only this task has, by the name of their file."""
        counts = zip(self.class_names, self.confusion.tolist(), strict=True)
        rows = [[name, *row] for name, row in counts]
        return {"confusion.csv": [["true \\ predicted", *self.class_names], *rows]}

    def prediction_rows(self, predictions: Iterable[Prediction]) -> Iterable[list[Any]]:
        """A table of predictions, with its header."""
        yield ["path", "label", "predicted", "confidence", "correct"]
        for row in predictions:
            correct = str(row.correct).lower()
            yield [row.path, row.class_name, row.predicted, f"{row.confidence:.6f}", correct]

    def draw(self, path: Path) -> None:
        """Draw the confusion matrix as a PNG file."""
        draw_confusion(self.confusion, self.class_names, path)

    def _macro(self, scores: np.ndarray) -> float:
        return float(scores[self.support > 0].mean())


def evaluate(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str], *, top_k: int = 5
) -> Evaluation:
    """Compare class probabilities with the true classes.

    Args:
        labels: (N,) int, the true classes.
        probabilities: (N, C) float.
        class_names: The C classes, in label order.
        top_k: Among how many of the most probable classes the true one must be for the top-k accuracy.

    Raises:
        DataError: There are no images, the shapes or labels do not fit, or a probability is not finite.
    """
    labels = as_numbers(labels, "Labels", whole=True).astype(np.int64)
    probabilities = as_numbers(probabilities, "Probabilities")
    _check(labels, probabilities, class_names)
    classes = len(class_names)
    pairs = labels * classes + probabilities.argmax(axis=1)
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    hits, found, support = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    return Evaluation(
        class_names=tuple(class_names),
        confusion=confusion,
        precision=hits / np.maximum(found, 1),
        recall=hits / np.maximum(support, 1),
        f1=2 * hits / np.maximum(found + support, 1),
        support=support,
        top_k=min(top_k, len(class_names)),
        top_k_accuracy=_top_k_accuracy(labels, probabilities, top_k),
    )


def judge(
    known: Sequence[tuple[str, tuple[str, ...]]],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    thresholds: Sequence[float] | None,
) -> tuple[Evaluation, tuple[Prediction, ...]]:
    """Evaluate what was predicted for some images, and list it; see `evaluation.judges.Judge`."""
    evaluation = evaluate(labels, probabilities, class_names)
    predictions = tuple(
        Prediction(path, name, class_names[row.argmax()], float(row.max()))
        for (path, (name,)), row in zip(known, probabilities, strict=True)
    )
    return evaluation, predictions


def _check(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> None:
    if labels.shape != probabilities.shape[:1] or probabilities.shape[1:] != (len(class_names),):
        raise DataError(
            f"Expected labels (N,) and probabilities (N, {len(class_names)}), one column per class. "
            f"Received: {labels.shape} and {probabilities.shape}."
        )
    if len(labels) == 0:
        raise DataError("There are no images to evaluate. Received: 0 labels.")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise DataError(
            f"Labels must lie in 0..{len(class_names) - 1}. Received: {labels.min()}..{labels.max()}."
        )
    if not np.isfinite(probabilities).all():
        raise DataError("Probabilities must be finite. Received: NaN or infinity. Did the training diverge?")


def _top_k_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    # scikit-learn's top_k_accuracy_score refuses two classes and breaks ties unlike argmax, so that its
    # top-1 accuracy may differ from the accuracy. As in argmax, the first of equal classes wins here.
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    return float((ahead.sum(axis=1) < k).mean())


def _class_table(evaluation: Evaluation) -> str:
    rows = [["class", "precision", "recall", "f1", "images"]]
    rows += [_class_row(evaluation, label) for label in range(len(evaluation.class_names))]
    averages = [evaluation.macro_precision, evaluation.macro_recall, evaluation.macro_f1]
    rows.append(["macro average", *(f"{value:.3f}" for value in averages), str(evaluation.image_count)])
    return format_table(rows)


def _class_row(evaluation: Evaluation, label: int) -> list[str]:
    scores = [evaluation.precision[label], evaluation.recall[label], evaluation.f1[label]]
    support = evaluation.support[label]
    texts = [f"{score:.3f}" if support else "-" for score in scores]
    return [shorten(evaluation.class_names[label], _NAME_COLUMNS), *texts, str(support)]


def _confusion_text(evaluation: Evaluation) -> str:
    if len(evaluation.class_names) <= _CONFUSION_TABLE_CLASSES:
        return "rows: true class, columns: predicted class\n" + _confusion_table(evaluation)
    if evaluation.correct_count == evaluation.image_count:
        return "no image was misclassified"
    return "most confused classes\n" + _confused_pairs(evaluation)


def _confusion_table(evaluation: Evaluation) -> str:
    names = [shorten(name, _NAME_COLUMNS) for name in evaluation.class_names]
    named = _with_headers(evaluation, names, names)
    if text_width(named) <= _TERMINAL_COLUMNS:
        return named
    # In brackets: class names may be numbers themselves.
    headers = [f"[{label}]" for label in range(len(names))]
    starts = [f"{header:>{len(headers[-1])}} {name}" for header, name in zip(headers, names, strict=True)]
    return _with_headers(evaluation, headers, starts)


def _with_headers(evaluation: Evaluation, headers: Sequence[str], starts: Sequence[str]) -> str:
    counts = zip(starts, evaluation.confusion.tolist(), strict=True)
    return format_table([["", *headers], *([start, *map(str, row)] for start, row in counts)])


def _confused_pairs(evaluation: Evaluation) -> str:
    errors = evaluation.confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:_CONFUSED_PAIRS]
    rows = [["true class", "predicted class", "images"]]
    for label, predicted in zip(*np.unravel_index(order, errors.shape), strict=True):
        names = [shorten(evaluation.class_names[index], _NAME_COLUMNS) for index in (label, predicted)]
        if errors[label, predicted]:
            rows.append([*names, f"{errors[label, predicted]} of {evaluation.support[label]}"])
    return format_table(rows)


def _totals(evaluation: Evaluation) -> str:
    text = (
        f"accuracy {evaluation.accuracy:.3f} ({evaluation.correct_count:,} of "
        f"{count_of(evaluation.image_count, 'image')})"
    )
    if evaluation.top_k < len(evaluation.class_names):
        text += f", top-{evaluation.top_k} accuracy {evaluation.top_k_accuracy:.3f}"
    return text

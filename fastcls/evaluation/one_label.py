"""What is measured on predictions of one class per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcls.errors import DataError
from fastcls.evaluation.arrays import as_numbers, log
from fastcls.evaluation.coverage import CHOSEN, cover, row_blocks, thresholds_of
from fastcls.evaluation.figures import CLASS_SCORES, NAME_COLUMNS, Figures, class_scores, score_text
from fastcls.evaluation.intervals import ByImage
from fastcls.evaluation.pictures import draw_confusion
from fastcls.evaluation.ranked import class_ranking
from fastcls.evaluation.reliability import Reliability
from fastcls.evaluation.text_table import COLUMNS, first_classes, format_table, shorten, text_width
from fastcls.wording import count_of

_CONFUSION_TABLE_CLASSES = 20
_CONFUSED_PAIRS = 20
_AVERAGED = ("precision", "recall", "f1")
_TOLD: tuple[dict[str, str], ...] = (
    {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"},
    {"mean_auroc": "AUROC", "mean_average_precision": "average precision"},
    {"log_loss": "log loss", "brier_score": "Brier score", "ece": "ECE"},
)
_SIX_DECIMALS = "{:.6f}".format


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was predicted for one image of known class.

    Attributes:
        path: POSIX path relative to the dataset's root.
        class_name: The true class.
        predicted: The most probable class.
        confidence: Its probability.
        rank: Place of the true class among all by falling probability: 1 where it is the predicted one.
        probabilities: (C,), of all classes.
    """

    path: str
    class_name: str
    predicted: str
    confidence: float
    rank: int
    probabilities: Sequence[float] | np.ndarray = field(repr=False, compare=False)

    @property
    def correct(self) -> bool:
        """Whether the predicted class is the true one."""
        return self.predicted == self.class_name


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Figures):
    """How well the classes of some images were predicted.

    A class's score is 0 where it is undefined: nothing was predicted as the class, or no image has it.
    The macro averages are over the classes that images have.

    Attributes:
        confusion: (C, C) int64, [true, predicted].
        top_k: The k asked for, at most C.
        top_k_accuracy: The share of images whose class is among the k most probable: 1 when k is C.
    """

    top_k: int
    top_k_accuracy: float

    exact_name: ClassVar[str] = "accuracy"
    counted: ClassVar[tuple[str, ...]] = ("images", "accuracy", "macro_precision", "macro_recall", "macro_f1")

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
        return self.macro("precision")

    @property
    def macro_recall(self) -> float:
        """Mean recall of the classes that images have: the balanced accuracy."""
        return self.macro("recall")

    @property
    def macro_f1(self) -> float:
        """Mean F1 score of the classes that images have."""
        return self.macro("f1")

    @property
    def headline(self) -> str:
        """The accuracy."""
        return f"accuracy {self.accuracy:.3f} {self._counted_images}"

    def scores(self) -> dict[str, Any]:
        """See `Figures`."""
        return {
            "accuracy": self.accuracy,
            "top_k": self.top_k,
            "top_k_accuracy": self.top_k_accuracy,
            "balanced_accuracy": self.macro_recall,
            **{f"macro_{name}": self.macro(name) for name in _AVERAGED},
            **{f"weighted_{name}": self._weighted(name) for name in _AVERAGED},
            "mean_auroc": self.macro("auroc"),
            "mean_average_precision": self.macro("average_precision"),
            "log_loss": self.log_loss,
            "brier_score": self.brier_score,
            "ece": self.ece,
        }

    def table(self) -> str:
        """The evaluation as text: a row per class, the confusion matrix, thresholds, and the totals."""
        return "\n\n".join([_class_table(self), _confusion_text(self), self.thresholds_text(), _totals(self)])

    def class_dicts(self) -> list[dict[str, Any]]:
        """The name, the scores and the support of each class."""
        columns = {
            "class_name": self.class_names,
            **self.score_columns(),
            "support": self.support.tolist(),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def csv_tables(self) -> dict[str, list[list[Any]]]:
        """Rows of tables, by the name of their file."""
        counts = zip(self.class_names, self.confusion.tolist(), strict=True)
        rows = [[name, *row] for name, row in counts]
        confusion = [["true \\ predicted", *self.class_names], *rows]
        return {"confusion.csv": confusion, **super().csv_tables()}

    def prediction_rows(
        self, predictions: Iterable[Prediction], *, compact: bool = False
    ) -> Iterable[list[Any]]:
        """See `Figures`."""
        own = [] if compact else [f"p:{name}" for name in self.class_names]
        yield ["path", "label", "predicted", "confidence", "rank", "correct", *own]
        for row in predictions:
            told = f"{row.confidence:.6f}", row.rank, str(row.correct).lower()
            probabilities = () if compact else map(_SIX_DECIMALS, row.probabilities)
            yield [row.path, row.class_name, row.predicted, *told, *probabilities]

    def draw(self, path: Path) -> None:
        """Draw the confusion matrix as a PNG file."""
        draw_confusion(self.confusion, self.class_names, path)

    @property
    def _counted_images(self) -> str:
        return f"({self.correct_count:,} of {count_of(self.image_count, 'image')})"

    def _weighted(self, name: str) -> float:
        """The mean of a score over classes, each by the number of its images."""
        return float((getattr(self, name) * self.support).sum() / self.support.sum())


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
    classes, predicted = len(class_names), probabilities.argmax(axis=1)
    pairs, ranks = labels * classes + predicted, true_ranks(labels, probabilities)
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    auroc, average_precision = class_ranking(_places(labels, classes), probabilities)
    confidence, is_right = probabilities.max(axis=1), predicted == labels
    by_image = ByImage(
        {"accuracy": is_right, "top_k_accuracy": ranks <= top_k, **_proper_scores(labels, probabilities)},
        *(lambda label: labels == label, lambda label: predicted == label, probabilities),
    )
    return Evaluation(
        class_names=tuple(class_names),
        confusion=confusion,
        **class_scores(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)),
        auroc=auroc,
        average_precision=average_precision,
        log_loss=float(by_image.means["log_loss"].mean()),
        brier_score=float(by_image.means["brier_score"].mean()),
        reliability=Reliability.of([(confidence, is_right)]),
        coverage=cover(confidence, is_right, thresholds_of(confidence)),
        chosen=cover(confidence, is_right, CHOSEN),
        by_image=by_image,
        top_k=min(top_k, classes),
        top_k_accuracy=float((ranks <= top_k).mean()),
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
    ranks = true_ranks(labels, probabilities).tolist()
    predictions = tuple(
        Prediction(path, name, class_names[row.argmax()], float(row.max()), rank, row)
        for (path, (name,)), row, rank in zip(known, probabilities, ranks, strict=True)
    )
    return evaluation, predictions


def true_ranks(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Place of the true class of each image by falling probability, (N,) int64, from 1.

    scikit-learn's top_k_accuracy_score refuses two classes and breaks ties unlike argmax, so that its top-1
    accuracy may differ from the accuracy. As in argmax, the first of equal classes wins here.
    """
    ranks = np.empty(len(labels), np.int64)
    classes = np.arange(probabilities.shape[1])
    for part in row_blocks(probabilities):
        own = np.take_along_axis(probabilities[part], labels[part, None], axis=1)
        is_tied = (probabilities[part] == own) & (classes < labels[part, None])
        ranks[part] = 1 + ((probabilities[part] > own) | is_tied).sum(axis=1)
    return ranks


def _places(labels: np.ndarray, classes: int) -> list[np.ndarray]:
    """Places of the images of each class."""
    ends = np.bincount(labels, minlength=classes).cumsum()
    return np.split(np.argsort(labels, kind="stable"), ends[:-1])


def _proper_scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Log loss and Brier score of each image."""
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    squares = np.empty(len(labels))
    for part in row_blocks(probabilities):
        values = probabilities[part].astype(np.float64)
        squares[part] = np.einsum("nc,nc->n", values, values)
    return {"log_loss": -log(own), "brier_score": squares - 2 * own.astype(np.float64) + 1}


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


def _class_table(evaluation: Evaluation) -> str:
    rows = []
    for row in evaluation.class_dicts():
        texts = [score_text(row[name]) for name in CLASS_SCORES]
        rows.append([shorten(row["class_name"], NAME_COLUMNS), *texts, f"{row['support']:,}"])
    averages = [score_text(evaluation.macro(name)) for name in CLASS_SCORES]
    averages = ["macro average", *averages, f"{evaluation.image_count:,}"]
    return format_table([["class", *CLASS_SCORES.values(), "images"], *first_classes(rows), averages])


def _confusion_text(evaluation: Evaluation) -> str:
    if len(evaluation.class_names) <= _CONFUSION_TABLE_CLASSES:
        return "rows: true class, columns: predicted class\n" + _confusion_table(evaluation)
    if evaluation.correct_count == evaluation.image_count:
        return "no image was misclassified"
    return "most confused classes\n" + _confused_pairs(evaluation)


def _confusion_table(evaluation: Evaluation) -> str:
    names = [shorten(name, NAME_COLUMNS) for name in evaluation.class_names]
    named = _with_headers(evaluation, names, names)
    if text_width(named) <= COLUMNS:
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
        names = [shorten(evaluation.class_names[index], NAME_COLUMNS) for index in (label, predicted)]
        if errors[label, predicted]:
            rows.append([*names, f"{errors[label, predicted]} of {evaluation.support[label]}"])
    return format_table(rows)


def _totals(evaluation: Evaluation) -> str:
    first = [f"{evaluation.in_words('accuracy', 'accuracy')} {evaluation._counted_images}"]
    if evaluation.top_k < len(evaluation.class_names):
        first.append(evaluation.in_words("top_k_accuracy", f"top-{evaluation.top_k} accuracy"))
    return evaluation.totals(first, *([evaluation.in_words(*pair) for pair in row.items()] for row in _TOLD))

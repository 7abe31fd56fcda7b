"""What is measured on predictions of any number of classes per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastcls.errors import DataError, shown
from fastcls.evaluation.arrays import as_numbers
from fastcls.evaluation.pictures import draw_found
from fastcls.evaluation.text_table import format_table, shorten
from fastcls.optional import frame
from fastcls.tasks import SEVERAL_LABELS, reach
from fastcls.wording import count_of

if TYPE_CHECKING:
    import pandas

_NAME_COLUMNS = 40
_CLASS_COLUMNS = ("auroc", "average_precision", "threshold", "precision", "recall", "f1")


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


@dataclass(frozen=True, eq=False)
class MultiLabelEvaluation:
    """How well the classes of some images were predicted, each class by itself and all together.

    The area under the ROC curve and the average precision need no threshold; NaN stands for a class for which
    they are undefined. Other scores of a class are 0 where they are undefined. Means ("macro") are over the
    classes that have the score, or that images have.

    Attributes:
        class_names: The C classes, in label order.
        thresholds: (C,) float64, the probability that a class must reach to be predicted.
        auroc: (C,) float64; NaN for a class that no image or every image has.
        average_precision: (C,) float64; NaN for a class that no image has.
        precision: (C,) float64.
        recall: (C,) float64.
        f1: (C,) float64.
        confusion: (C, 4) int64: true positives, false negatives, false positives, true negatives.
        micro_f1: F1 score of all pairs of an image and a class.
        hamming_loss: The share of such pairs that were predicted wrong.
        exact_match_count: Images of which all classes were predicted right.
    """

    class_names: tuple[str, ...]
    thresholds: np.ndarray
    auroc: np.ndarray
    average_precision: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    confusion: np.ndarray
    micro_f1: float
    hamming_loss: float
    exact_match_count: int

    def __repr__(self) -> str:
        return f"<MultiLabelEvaluation of {count_of(len(self.class_names), 'class')}: {_totals(self)}>"

    @property
    def image_count(self) -> int:
        """How many images were evaluated."""
        return int(self.confusion[0].sum())

    @property
    def support(self) -> np.ndarray:
        """(C,) int64, how many images have the class."""
        return self.confusion[:, :2].sum(axis=1)

    @property
    def exact_match(self) -> float:
        """The share of images of which all classes were predicted right."""
        return self.exact_match_count / self.image_count

    def macro(self, name: str) -> float:
        """The mean of a score over the classes that have it; NaN where none does."""
        scores = getattr(self, name)[self.support > 0]
        defined = scores[~np.isnan(scores)]
        return float(defined.mean()) if len(defined) else np.nan

    def table(self) -> str:
        """The evaluation as text: a row per class, the confusion of each, and the totals."""
        return "\n\n".join([_class_table(self), _confusion_table(self), _totals(self)])

    def to_dict(self) -> dict[str, Any]:
        """All scores as values that JSON can hold; null for one that is undefined."""
        return {
            "images": self.image_count,
            "mean_auroc": _or_none(self.macro("auroc")),
            "mean_average_precision": _or_none(self.macro("average_precision")),
            "macro_precision": _or_none(self.macro("precision")),
            "macro_recall": _or_none(self.macro("recall")),
            "macro_f1": _or_none(self.macro("f1")),
            "micro_f1": self.micro_f1,
            "hamming_loss": self.hamming_loss,
            "exact_match": self.exact_match,
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
        """The name, the scores, the support and the confusion of each class."""
        columns: dict[str, list[Any]] = {
            "class_name": list(self.class_names),
            "auroc": [_or_none(value) for value in self.auroc.tolist()],
            "average_precision": [_or_none(value) for value in self.average_precision.tolist()],
            "threshold": self.thresholds.tolist(),
            "precision": self.precision.tolist(),
            "recall": self.recall.tolist(),
            "f1": self.f1.tolist(),
            "support": self.support.tolist(),
        }
        kinds = ("true_positives", "false_negatives", "false_positives", "true_negatives")
        columns |= dict(zip(kinds, self.confusion.T.tolist(), strict=True))
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def csv_tables(self) -> dict[str, list[list[Any]]]:
        """None besides the scores of the classes, which hold the confusion of each."""
        return {}

    def prediction_rows(self, predictions: Iterable[MultiLabelPrediction]) -> Iterable[list[Any]]:
        """A table of predictions, with its header: names as JSON arrays, then a column per class."""
        yield ["path", "labels", "predicted", *self.class_names]
        for row in predictions:
            named = map(SEVERAL_LABELS.write_cell, (row.class_names, row.predicted))
            yield [row.path, *named, *(f"{value:.6f}" for value in row.probabilities)]

    def draw(self, path: Path) -> None:
        """Draw the confusion of each class as a PNG file."""
        draw_found(self.confusion, self.class_names, path)


def evaluate_multi_label(
    targets: ArrayLike, probabilities: ArrayLike, thresholds: Sequence[float], class_names: Sequence[str]
) -> MultiLabelEvaluation:
    """Compare class probabilities with the true classes.

    Args:
        targets: (N, C) of 0 and 1.
        probabilities: (N, C) float.
        thresholds: (C,) the probability that a class must reach to be predicted.
        class_names: The C classes, in label order.

    Raises:
        DataError: There are no images, the shapes do not fit, or a probability is not finite.
    """
    targets, probabilities = as_numbers(targets, "Targets"), as_numbers(probabilities, "Probabilities")
    _check(targets, probabilities, class_names)
    targets, predicted = targets.astype(bool), reach(probabilities, thresholds)
    hits, misses = (targets & predicted).sum(axis=0), (targets & ~predicted).sum(axis=0)
    alarms, others = (~targets & predicted).sum(axis=0), (~targets & ~predicted).sum(axis=0)
    wrong = int((misses + alarms).sum())
    return MultiLabelEvaluation(
        class_names=tuple(class_names),
        thresholds=np.asarray(thresholds, np.float64),
        auroc=class_auroc(targets, probabilities),
        average_precision=_average_precision(targets, probabilities),
        precision=hits / np.maximum(hits + alarms, 1),
        recall=hits / np.maximum(hits + misses, 1),
        f1=2 * hits / np.maximum(2 * hits + misses + alarms, 1),
        confusion=np.column_stack([hits, misses, alarms, others]),
        micro_f1=float(2 * hits.sum() / max(2 * hits.sum() + wrong, 1)),
        hamming_loss=wrong / targets.size,
        exact_match_count=int((targets == predicted).all(axis=1).sum()),
    )


def judge(
    known: Sequence[tuple[str, tuple[str, ...]]],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    thresholds: Sequence[float] | None,
) -> tuple[MultiLabelEvaluation, tuple[MultiLabelPrediction, ...]]:
    """Evaluate what was predicted for some images, and list it; see `evaluation.judges.Judge`."""
    evaluation = evaluate_multi_label(labels, probabilities, thresholds or (), class_names)
    images = zip(known, probabilities, reach(probabilities, evaluation.thresholds), strict=True)
    predictions = tuple(
        MultiLabelPrediction(path, names, _named(class_names, reached), tuple(row.tolist()))
        for (path, names), row, reached in images
    )
    return evaluation, predictions


def _named(class_names: Sequence[str], reached: np.ndarray) -> tuple[str, ...]:
    return tuple(class_names[label] for label in np.flatnonzero(reached).tolist())


def class_auroc(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class, (C,) float64; NaN where all images or none have the class."""
    areas = np.full(targets.shape[1], np.nan)
    for label in np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0)):
        positives, counts = _by_threshold(targets[:, label], probabilities[:, label])
        negatives = counts - positives
        below = negatives[::-1].cumsum()[::-1] - negatives / 2  # of equal probabilities, half are below
        areas[label] = (positives * below).sum() / (positives.sum() * negatives.sum())
    return areas


def _average_precision(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    scores = np.full(targets.shape[1], np.nan)
    for label in np.flatnonzero(targets.any(axis=0)):
        positives, counts = _by_threshold(targets[:, label], probabilities[:, label])
        precision = positives.cumsum() / counts.cumsum()
        scores[label] = (positives * precision).sum() / positives.sum()
    return scores


def _by_threshold(has_class: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many images with the class, and how many at all, have each probability, by falling probability."""
    _, places = np.unique(-probabilities, return_inverse=True)
    return np.bincount(places, weights=has_class), np.bincount(places)


def _check(targets: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]) -> None:
    if targets.shape != probabilities.shape or targets.shape[1:] != (len(class_names),):
        raise DataError(
            f"Expected targets and probabilities (N, {len(class_names)}), one column per class. "
            f"Received: {targets.shape} and {probabilities.shape}."
        )
    if len(targets) == 0:
        raise DataError("There are no images to evaluate. Received: 0 rows.")
    if not np.isin(targets, (0, 1)).all():
        raise DataError(f"Targets must be 0 or 1. Received: {shown(targets[~np.isin(targets, (0, 1))][0])}.")
    if not np.isfinite(probabilities).all():
        raise DataError("Probabilities must be finite. Received: NaN or infinity. Did the training diverge?")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _class_table(evaluation: MultiLabelEvaluation) -> str:
    rows = [["class", "AUROC", "AP", "threshold", "precision", "recall", "F1", "images"]]
    for place, row in enumerate(evaluation.class_dicts()):
        has_images = bool(evaluation.support[place])
        scores = [row[name] if has_images or name == "threshold" else None for name in _CLASS_COLUMNS]
        rows.append([shorten(row["class_name"], _NAME_COLUMNS), *map(_text, scores), str(row["support"])])
    means = [None if name == "threshold" else evaluation.macro(name) for name in _CLASS_COLUMNS]
    rows.append(["mean", *map(_text, means), str(evaluation.image_count)])
    return format_table(rows)


def _confusion_table(evaluation: MultiLabelEvaluation) -> str:
    rows = [["", "TP", "FN", "FP", "TN"]]
    for name, counts in zip(evaluation.class_names, evaluation.confusion.tolist(), strict=True):
        rows.append([shorten(name, _NAME_COLUMNS), *map(str, counts)])
    return format_table(rows)


def _totals(evaluation: MultiLabelEvaluation) -> str:
    return (
        f"mean AUROC {_text(evaluation.macro('auroc'))}, mAP {_text(evaluation.macro('average_precision'))}, "
        f"micro F1 {evaluation.micro_f1:.3f}, Hamming loss {evaluation.hamming_loss:.3f}, exact match "
        f"{evaluation.exact_match:.3f} ({evaluation.exact_match_count:,} of "
        f"{count_of(evaluation.image_count, 'image')})"
    )


def _text(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"

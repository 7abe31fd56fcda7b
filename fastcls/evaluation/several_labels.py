"""What is measured on predictions of any number of classes per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fastcls.errors import DataError, shown
from fastcls.evaluation.arrays import as_numbers, log
from fastcls.evaluation.coverage import CHOSEN, cover_several, row_blocks, thresholds_of
from fastcls.evaluation.figures import NAME_COLUMNS, Figures, class_scores, score_text
from fastcls.evaluation.intervals import ByImage
from fastcls.evaluation.pictures import draw_found
from fastcls.evaluation.ranked import class_ranking
from fastcls.evaluation.reliability import Reliability
from fastcls.evaluation.text_table import first_classes, format_table, shorten
from fastcls.tasks import SEVERAL_LABELS, reach
from fastcls.wording import count_of

_AVERAGED = ("precision", "recall", "f1")
_KINDS = ("true_positives", "false_negatives", "false_positives", "true_negatives")
# Columns of the table of classes, and what it calls them.
_COLUMNS = {
    "auroc": "AUROC",
    "average_precision": "AP",
    "threshold": "threshold",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}
_TOLD: tuple[dict[str, str], ...] = (
    {"mean_auroc": "mean AUROC", "mean_average_precision": "mAP"},
    {"macro_f1": "macro F1", "micro_f1": "micro F1", "hamming_loss": "Hamming loss"},
    {"log_loss": "log loss", "brier_score": "Brier score", "ece": "ECE"},
)


@dataclass(frozen=True, slots=True)
class MultiLabelPrediction:
    """What was predicted for one image of known classes.

    Attributes:
        path: POSIX path relative to the dataset's root.
        class_names: The true classes.
        predicted: The classes with at least their threshold.
        rank: How many of the most probable classes hold all true ones; 0 for an image without classes.
        probabilities: (C,), one per class of the classifier.
    """

    path: str
    class_names: tuple[str, ...]
    predicted: tuple[str, ...]
    rank: int
    probabilities: Sequence[float] | np.ndarray = field(repr=False, compare=False)

    @property
    def confidence(self) -> float:
        """The largest probability."""
        return float(max(self.probabilities))

    @property
    def correct(self) -> bool:
        """Whether the predicted classes are the true ones."""
        return set(self.predicted) == set(self.class_names)


@dataclass(frozen=True, eq=False, repr=False)
class MultiLabelEvaluation(Figures):
    """How well the classes of some images were predicted, each class by itself and all together.

    The area under the ROC curve and the average precision need no threshold; NaN stands for a class for which
    they are undefined. Other scores of a class are 0 where they are undefined. Means ("macro") are over the
    classes that have the score, or that images have.

    Attributes:
        confusion: (C, 4) int64: true positives, false negatives, false positives, true negatives.
        thresholds: (C,) float64, the probability that a class must reach to be predicted.
        exact_match_count: Images of which all classes were predicted right.
    """

    thresholds: np.ndarray
    exact_match_count: int

    exact_name: ClassVar[str] = "exact_match"
    counted: ClassVar[tuple[str, ...]] = ("images", "macro_f1", "micro_f1", "hamming_loss", "exact_match")

    @property
    def exact_match(self) -> float:
        """The share of images of which all classes were predicted right."""
        return self.exact_match_count / self.image_count

    @property
    def micro_f1(self) -> float:
        """F1 score of all pairs of an image and a class."""
        return self._micro["f1"]

    @property
    def hamming_loss(self) -> float:
        """The share of such pairs that were predicted wrong."""
        return float(self.confusion[:, 1:3].sum() / self.confusion.sum())

    @property
    def headline(self) -> str:
        """The mean AUROC and the exact match."""
        exact = f"exact match {self.exact_match:.3f} {self._counted_images}"
        return f"mean AUROC {score_text(self.macro('auroc'))}, {exact}"

    def scores(self) -> dict[str, Any]:
        """See `Figures`."""
        return {
            "mean_auroc": self.macro("auroc"),
            "mean_average_precision": self.macro("average_precision"),
            **{f"macro_{name}": self.macro(name) for name in _AVERAGED},
            **{f"micro_{name}": value for name, value in self._micro.items()},
            "hamming_loss": self.hamming_loss,
            "exact_match": self.exact_match,
            "log_loss": self.log_loss,
            "brier_score": self.brier_score,
            "ece": self.ece,
        }

    def table(self) -> str:
        """The evaluation as text: a row per class, the confusion of each, thresholds, and the totals."""
        parts = _class_table(self), _confusion_table(self), self.thresholds_text(), _totals(self)
        return "\n\n".join(parts)

    def class_dicts(self) -> list[dict[str, Any]]:
        """The name, the scores, the support and the confusion of each class."""
        scores = self.score_columns()
        columns: dict[str, list[Any]] = {
            "class_name": list(self.class_names),
            "auroc": scores.pop("auroc"),
            "average_precision": scores.pop("average_precision"),
            "threshold": self.thresholds.tolist(),
            **scores,
            "support": self.support.tolist(),
            **dict(zip(_KINDS, self.confusion.T.tolist(), strict=True)),
        }
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def prediction_rows(
        self, predictions: Iterable[MultiLabelPrediction], *, compact: bool = False
    ) -> Iterable[list[Any]]:
        """See `Figures`; names are JSON arrays."""
        own = [] if compact else [f"p:{name}" for name in self.class_names]
        yield ["path", "labels", "predicted", "confidence", "rank", "correct", *own]
        for row in predictions:
            named = map(SEVERAL_LABELS.write_cell, (row.class_names, row.predicted))
            told = f"{row.confidence:.6f}", row.rank, str(row.correct).lower()
            probabilities = () if compact else map("{:.6f}".format, row.probabilities)
            yield [row.path, *named, *told, *probabilities]

    def draw(self, path: Path) -> None:
        """Draw the confusion of each class as a PNG file."""
        draw_found(self.confusion, self.class_names, path)

    @property
    def _counted_images(self) -> str:
        return f"({self.exact_match_count:,} of {count_of(self.image_count, 'image')})"

    @property
    def _micro(self) -> dict[str, float]:
        hits, misses, alarms, _ = self.confusion.sum(axis=0).tolist()
        return {
            "precision": hits / max(hits + alarms, 1),
            "recall": hits / max(hits + misses, 1),
            "f1": 2 * hits / max(2 * hits + misses + alarms, 1),
        }


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
    targets, predicted = targets.astype(bool), _reached(probabilities, thresholds)
    hits, misses = (targets & predicted).sum(axis=0), (targets & ~predicted).sum(axis=0)
    alarms, others = (~targets & predicted).sum(axis=0), (~targets & ~predicted).sum(axis=0)
    auroc, average_precision = class_ranking([np.flatnonzero(column) for column in targets.T], probabilities)
    is_wrong = targets != predicted
    by_image = ByImage(
        {
            "exact_match": ~is_wrong.any(axis=1),
            "hamming_loss": is_wrong.mean(axis=1),
            **_proper_scores(targets, probabilities),
        },
        *(lambda label: targets[:, label], lambda label: predicted[:, label], probabilities),
    )
    return MultiLabelEvaluation(
        class_names=tuple(class_names),
        confusion=np.column_stack([hits, misses, alarms, others]),
        **class_scores(hits, hits + misses, hits + alarms),
        auroc=auroc,
        average_precision=average_precision,
        log_loss=float(by_image.means["log_loss"].mean()),
        brier_score=float(by_image.means["brier_score"].mean()),
        reliability=Reliability.of((probabilities[part], targets[part]) for part in row_blocks(targets)),
        coverage=cover_several(targets, probabilities, _thresholds_of(targets, probabilities)),
        chosen=cover_several(targets, probabilities, CHOSEN),
        by_image=by_image,
        thresholds=np.asarray(thresholds, np.float64),
        exact_match_count=int((~is_wrong.any(axis=1)).sum()),
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
    ranks = last_ranks(labels.astype(bool), probabilities).tolist()
    reached = _reached(probabilities, evaluation.thresholds)
    predictions = tuple(
        MultiLabelPrediction(path, names, _named(class_names, found), rank, row)
        for (path, names), found, rank, row in zip(known, reached, ranks, probabilities, strict=True)
    )
    return evaluation, predictions


def last_ranks(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How many of the most probable classes hold all true ones, (N,) int64; 0 for an image without classes.

    Classes that are as probable as the last true one count, as in scikit-learn's coverage_error.
    """
    ranks = np.empty(len(targets), np.int64)
    for part in row_blocks(probabilities):
        least = np.where(targets[part], probabilities[part], np.inf).min(axis=1, keepdims=True)
        ranks[part] = (probabilities[part] >= least).sum(axis=1)
    return ranks


def _reached(probabilities: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    reached = np.empty(probabilities.shape, bool)
    for part in row_blocks(probabilities):
        reached[part] = reach(probabilities[part], thresholds)
    return reached


def _proper_scores(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Log loss and Brier score of each image, means over the classes."""
    losses, squares = np.empty((2, len(targets)))
    for part in row_blocks(probabilities):
        values, has = probabilities[part], targets[part]
        losses[part] = -log(np.where(has, values, 1 - values)).mean(axis=1)
        squares[part] = np.square(values.astype(np.float64) - has).mean(axis=1)
    return {"log_loss": losses, "brier_score": squares}


def _thresholds_of(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return thresholds_of(np.concatenate([probabilities.max(axis=1), probabilities[targets]]))


def _named(class_names: Sequence[str], reached: np.ndarray) -> tuple[str, ...]:
    return tuple(class_names[label] for label in np.flatnonzero(reached).tolist())


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


def _class_table(evaluation: MultiLabelEvaluation) -> str:
    rows = []
    for row in evaluation.class_dicts():
        scores = map(score_text, (row[name] for name in _COLUMNS))
        rows.append([shorten(row["class_name"], NAME_COLUMNS), *scores, f"{row['support']:,}"])
    means = ["-" if name == "threshold" else score_text(evaluation.macro(name)) for name in _COLUMNS]
    means = ["mean", *means, f"{evaluation.image_count:,}"]
    return format_table([["class", *_COLUMNS.values(), "images"], *first_classes(rows), means])


def _confusion_table(evaluation: MultiLabelEvaluation) -> str:
    named = zip(evaluation.class_names, evaluation.confusion.tolist(), strict=True)
    rows = [[shorten(name, NAME_COLUMNS), *map(str, counts)] for name, counts in named]
    return format_table([["", "TP", "FN", "FP", "TN"], *first_classes(rows)])


def _totals(evaluation: MultiLabelEvaluation) -> str:
    exact = f"{evaluation.in_words('exact_match', 'exact match')} {evaluation._counted_images}"
    groups = [[evaluation.in_words(*pair) for pair in row.items()] for row in _TOLD]
    return evaluation.totals(groups[0], [exact], *groups[1:])

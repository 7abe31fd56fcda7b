"""What the figures of every task have in common."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastcls.evaluation.coverage import Coverage
from fastcls.evaluation.intervals import ByImage, intervals
from fastcls.evaluation.pictures import draw_reliability
from fastcls.evaluation.reliability import Reliability
from fastcls.evaluation.text_table import shorten, wrap_parts
from fastcls.optional import frame
from fastcls.wording import count_of

if TYPE_CHECKING:
    import pandas

# Names of the scores of a class, and what a table calls them.
CLASS_SCORES = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "auroc": "AUROC",
    "average_precision": "AP",
}
NAME_COLUMNS = 40
_SAME = {"balanced_accuracy": "macro_recall"}
_LISTED_CLASSES = 5


@dataclass(frozen=True, eq=False)
class Figures(ABC):
    """How well the classes of N images were predicted; docs/evaluation.md defines each figure.

    Attributes:
        class_names: The C classes, in label order.
        confusion: Counts of images; see the task's own.
        precision: (C,) float64; 0 for a class that was never predicted.
        recall: (C,) float64; 0 for a class that no image has, as its precision and F1 score are.
        f1: (C,) float64.
        auroc: (C,) float64; NaN for a class that no image or every image has.
        average_precision: (C,) float64; NaN for a class that no image has.
        support: (C,) int64, how many images have the class.
        log_loss: Mean negative log of the probability of what is true.
        brier_score: Mean squared error of the probabilities.
        reliability: Confidence against accuracy.
        coverage: What remains above each threshold.
        chosen: The same at a few thresholds.
        by_image: What intervals are computed from.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    auroc: np.ndarray
    average_precision: np.ndarray
    support: np.ndarray
    log_loss: float
    brier_score: float
    reliability: Reliability
    coverage: Coverage
    chosen: Coverage
    by_image: ByImage = field(repr=False)

    exact_name: ClassVar[str]
    counted: ClassVar[tuple[str, ...]]

    def __repr__(self) -> str:
        classes = count_of(len(self.class_names), "class")
        return f"<{type(self).__name__} of {classes}: {self.headline}>"

    @property
    def image_count(self) -> int:
        """How many images were evaluated."""
        return len(self.by_image.scores)

    @property
    def ece(self) -> float:
        """Expected calibration error."""
        return self.reliability.ece

    @property
    @abstractmethod
    def headline(self) -> str:
        """The first figure as text, without its interval."""

    @abstractmethod
    def scores(self) -> dict[str, Any]:
        """All figures of all classes together by name; NaN for one that is undefined."""

    @abstractmethod
    def table(self) -> str:
        """The figures as text."""

    @abstractmethod
    def class_dicts(self) -> list[dict[str, Any]]:
        """The figures of each class; None for one that is undefined."""

    @abstractmethod
    def prediction_rows(self, predictions: Iterable[Any], *, compact: bool = False) -> Iterable[list[Any]]:
        """A table of predictions, with its header.

        Args:
            predictions: What a judge returned.
            compact: Leave the probabilities of the classes out.
        """

    @abstractmethod
    def draw(self, path: Path) -> None:
        """Draw what was taken for what as a PNG file."""

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % bootstrap interval of each figure that has one; see `evaluation.intervals`."""
        found = intervals(self.by_image)
        keys = {name: _SAME.get(name, name) for name in self.scores()}
        return {name: found[key] for name, key in keys.items() if key in found}

    def macro(self, name: str) -> float:
        """The mean of a score over the classes that images have and that have it; NaN where none does."""
        scores = getattr(self, name)[self.support > 0]
        defined = scores[~np.isnan(scores)]
        return float(defined.mean()) if len(defined) else np.nan

    def to_dict(self) -> dict[str, Any]:
        """All figures with their intervals as values that JSON can hold; null for one that is undefined."""
        return {
            "images": self.image_count,
            **{name: none_if_nan(value) for name, value in self.scores().items()},
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "classes": self.class_dicts(),
        }

    def to_frame(self) -> pandas.DataFrame:
        """A row per class, as `class_dicts` has them.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        rows = self.class_dicts()
        return frame((list(row.values()) for row in rows), list(rows[0]))

    def csv_tables(self) -> dict[str, list[list[Any]]]:
        """Rows of tables, by the name of their file."""
        return {
            "thresholds.csv": self.coverage.rows(self.exact_name),
            "reliability.csv": self.reliability.rows(),
        }

    def draw_reliability(self, path: Path) -> None:
        """Draw confidence against accuracy, and what a threshold brings, as a PNG file."""
        draw_reliability(self.reliability, self.coverage, path)

    def score_columns(self) -> dict[str, list[float | None]]:
        """The scores of each class; None for those that are undefined, and of a class that no image has."""
        has_images = (self.support > 0).tolist()
        return {
            name: [
                none_if_nan(value) if known else None
                for value, known in zip(getattr(self, name).tolist(), has_images, strict=True)
            ]
            for name in CLASS_SCORES
        }

    def in_words(self, name: str, called: str) -> str:
        """A figure with its interval.

        Args:
            name: As in `scores`.
            called: What a text calls it.
        """
        bounds = self.intervals.get(name)
        interval = f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""
        return f"{called} {score_text(self.scores()[name])}{interval}"

    def thresholds_text(self) -> str:
        """What remains at a few thresholds."""
        return "predictions of at least a probability\n" + self.chosen.table()

    def totals(self, *groups: Iterable[str]) -> str:
        """Groups of figures in words as lines, with a note on their intervals and on missing classes."""
        lines = [wrap_parts(group) for group in groups]
        lines.append("in brackets: 95 % bootstrap intervals over the images")
        absent = [self.class_names[label] for label in np.flatnonzero(self.support == 0)]
        if absent:
            lines.append(_absence(absent, len(self.class_names)))
        return "\n".join(lines)


def class_scores(hits: np.ndarray, support: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 score of classes by their counts; 0 where undefined.

    Args:
        hits: (C,) int, as both other ones: images that have the class and were predicted to have it.
        support: Images that have the class.
        found: Images that were predicted to have it.
    """
    return {
        "precision": hits / np.maximum(found, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(found + support, 1),
        "support": support,
    }


def none_if_nan(value: float) -> Any:
    """A number as JSON has it."""
    return None if isinstance(value, float) and np.isnan(value) else value


def score_text(value: float | None) -> str:
    """A score in a table."""
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def _absence(absent: list[str], classes: int) -> str:
    named = ", ".join(shorten(name, 20) for name in absent[:_LISTED_CLASSES])
    more = ", ..." if len(absent) > _LISTED_CLASSES else ""
    return f"{len(absent):,} of {count_of(classes, 'class')} without images, left out of means: {named}{more}"

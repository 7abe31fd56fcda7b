"""What a classifier says of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcls import optional
from fastcls.files import PathLike
from fastcls.specs import UNSURE, AnswerSpec
from fastcls.wording import count_of

if TYPE_CHECKING:
    import pandas

    from fastcls.inference.classifier import Classifier


@dataclass(frozen=True, eq=False)
class ImageResult:
    """What a classifier says of one image.

    Attributes:
        index: Which image it is of those given, from 0; the images of a folder count one by one.
        path: Its file; None for an address, a frame of a video, bytes, an array or a Pillow image.
        probabilities: (C,) float32; None when the image is unreadable.
        classifier: Who says so.
        reason: Why it is unreadable; "" when it is not.
        answer: Which classes are said of it.
        unfamiliarity: How unlike the training images it is, above 1 where 95 % of those for validation are
            below; None where that is not known.
        name: What it is called: its path, its address, or its frame, `clip.mp4#frame=120`; "" for bytes, an
            array or a Pillow image.
        seconds: When it is shown in its video; None where it is no frame of one.
    """

    index: int
    path: Path | None
    probabilities: np.ndarray | None
    classifier: Classifier = field(repr=False)
    reason: str = ""
    answer: AnswerSpec = field(default=AnswerSpec(), repr=False)
    unfamiliarity: float | None = None
    name: str = ""
    seconds: float | None = None

    def __repr__(self) -> str:
        named = ", ".join(f"{name} {confidence:.1%}" for name, confidence in self.top(1)) or "no class"
        return f"<{self.name or f'image {self.index}'}: {self.reason or named}>"

    @property
    def is_unfamiliar(self) -> bool | None:
        """Whether it is unlike the training images; None where that is not known."""
        return None if self.unfamiliarity is None else self.unfamiliarity > 1

    def top(self, k: int | None = None) -> list[tuple[str, float]]:
        """The most probable classes, with their probabilities.

        With several labels per image these are the classes that reach their thresholds: there may be none.
        Where the most probable class of one label is below `min_confidence`, "unsure" is all there is, with
        the probability of that class.

        Args:
            k: At most this many; None for all.
        """
        if self.probabilities is None:
            return []
        least = self.answer.min_confidence
        if least is not None and self.probabilities.max() < least:
            return [(UNSURE, float(self.probabilities.max()))]
        return self._named(self.classifier.rank(self.probabilities, self.answer.threshold)[:k])

    def scores(self, k: int | None = None) -> list[tuple[str, float]]:
        """The classes with their probabilities, the most probable first, whichever are predicted.

        Args:
            k: At most this many; None for all.
        """
        if self.probabilities is None:
            return []
        order = self.probabilities.argsort(kind="stable")[::-1]
        return self._named(order[:k].tolist())

    def _named(self, labels: list[int]) -> list[tuple[str, float]]:
        probabilities = np.asarray(self.probabilities)
        return [(self.classifier.class_names[label], float(probabilities[label])) for label in labels]

    @property
    def class_name(self) -> str | None:
        """The most probable class, or "unsure"; None of an unreadable image, and where there is no class."""
        return next((name for name, _ in self.top(1)), None)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The predicted classes, sorted: one, or with several labels per image any number."""
        return tuple(sorted(name for name, _ in self.top(1 if self.classifier.thresholds is None else None)))

    @property
    def confidence(self) -> float | None:
        """The probability of `class_name`."""
        return next((confidence for _, confidence in self.top(1)), None)


class Predictions(list[ImageResult]):
    """The results of some images, in order."""

    def __repr__(self) -> str:
        unreadable = sum(result.probabilities is None for result in self)
        return f"<Predictions of {count_of(len(self), 'image')}, {unreadable} unreadable>"

    @property
    def unreadable(self) -> list[ImageResult]:
        """Those of images that cannot be read."""
        return [result for result in self if result.probabilities is None]

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C) float32, a row per image; NaN in those of unreadable ones."""
        if not self:
            return np.empty((0, 0), np.float32)
        nothing = np.full(len(self[0].classifier.class_names), np.nan, np.float32)
        return np.stack([nothing if r.probabilities is None else r.probabilities for r in self])

    def sort_into(self, folder: PathLike) -> dict[str, int]:
        """Link to the images in a folder for each predicted class; the images stay where they are.

        Images of several labels have a link in each of their classes. Where hard links are not possible,
        images are copied.

        Args:
            folder: A new or empty folder; it appears whole.

        Returns:
            How many images each folder in it has.

        Raises:
            OptionError: The folder holds something.
            DataError: An image has no file of its own.
        """
        from fastcls.inference.sorted_images import sorting

        with sorting(folder) as made:
            for result in self:
                made.add(result)
        return dict(made.counts)

    def to_frame(self) -> pandas.DataFrame:
        """A row per image: path, predicted class (with several labels a tuple of them), confidence, reason.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return optional.frame(map(_row, self), ("path", "predicted", "confidence", "reason"))


def _row(result: ImageResult) -> tuple[Any, ...]:
    predicted = result.class_name if result.classifier.thresholds is None else result.class_names
    return result.name or None, predicted, result.confidence, result.reason

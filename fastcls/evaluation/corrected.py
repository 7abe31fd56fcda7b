"""Figures of a test with the corrections that a person has made to its images, beside those without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.cache.corrections import Correction, Corrections
from fastcls.data.dataset import Dataset
from fastcls.errors import DataError
from fastcls.evaluation.judges import JUDGES
from fastcls.wording import count_of

TEST = "test"


@dataclass(frozen=True)
class Corrected:
    """A test with corrections.

    Attributes:
        relabeled: How many of the images have other classes.
        dropped: How many are left out.
        moved: How many belong in another split, and are left out as well.
        headline: The figures in words.
        figures: All of them, as metrics.json has them.
    """

    relabeled: int
    dropped: int
    moved: int
    headline: str
    figures: dict[str, Any]

    def __str__(self) -> str:
        relabeled = f"{count_of(self.relabeled, 'image')} relabeled, {self.dropped:,} dropped"
        return f"With the corrections ({relabeled}, {self.moved:,} moved to another split): {self.headline}"


class Corrector:
    """What is corrected in the images of a test; see `Corrector.of`."""

    @classmethod
    def of(
        cls, path: str | None, tested: Dataset, digests: Sequence[str], classifier: Any
    ) -> Corrector | None:
        """What a table of corrections says of the images of a test; None without a table.

        Args:
            path: The issues.csv of an audit, with decisions in its column action.
            tested: The images.
            digests: Their identities.
            classifier: What is tested.

        Raises:
            DataError: The corrections cannot be read, apply to no image, or name a class that the classifier
                does not know.
        """
        return None if path is None else cls(Path(path), tested, digests, classifier)

    def __init__(self, path: Path, tested: Dataset, digests: Sequence[str], classifier: Any) -> None:
        self._classifier = classifier
        corrections = Corrections.read(path, classifier.task)
        self.digest = corrections.digest
        known = [corrections.of.get(digest, Correction()) for digest in digests]
        own = [*map(tested.names_of, tested.samples)]
        self._names = [
            names if each.labels is None else each.labels for each, names in zip(known, own, strict=True)
        ]
        self._dropped = [each.is_dropped for each in known]
        self._moved = [not each.is_dropped and each.split not in (None, TEST) for each in known]
        self._left = [dropped or moved for dropped, moved in zip(self._dropped, self._moved, strict=True)]
        self._changed = [tuple(new) != tuple(names) for new, names in zip(self._names, own, strict=True)]
        if not any(self._left) and not any(self._changed):
            raise DataError(f"{path} corrects none of the {count_of(len(own), 'image')} of {tested.given}")
        corrections.require_known(classifier.class_names)
        self._paths = [sample.path for sample in tested.samples]

    def judge(self, probabilities: np.ndarray, readable: Sequence[int]) -> Corrected:
        """The figures.

        Args:
            probabilities: (N, C) of the images.
            readable: Places of those with a prediction.
        """
        kept = [place for place in readable if not self._left[place]]
        if not kept:
            raise DataError("With the corrections no test image is left")
        task, names = self._classifier.task, [self._names[place] for place in kept]
        class_names = self._classifier.class_names
        known = [(self._paths[place], tuple(own)) for place, own in zip(kept, names, strict=True)]
        judged = known, task.encode(names, class_names), probabilities[kept], class_names
        evaluation, _ = JUDGES[task](*judged, self._classifier.thresholds)
        relabeled = sum(self._changed[place] for place in kept)
        dropped, moved = (sum(each[place] for place in readable) for each in (self._dropped, self._moved))
        return Corrected(relabeled, dropped, moved, evaluation.headline, evaluation.to_dict())

"""What a test says of itself: the member "tested_on" of metrics.json."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastcls
from fastcls.evaluation.corrected import Corrected
from fastcls.evaluation.parity import Parity
from fastcls.metrics_record import read_metrics
from fastcls.used_images import EARLIER, REFIT, TRAIN, VAL
from fastcls.wording import count_of

MEMBER = "tested_on"
FORWARDED = "images"
_UNTOLD = (
    "Which images are unlike those trained on is not known: the classifier was finetuned, trained on too few "
    "images, or by an earlier version, or is an export"
)
_OTHERS = "Test on other images; `fastcls run` and `fastcls split-data` hold some out with --test 0.2"
_IN_WORDS = {
    TRAIN: "used for training",
    VAL: "used for validation",
    REFIT: "used for validation, then for training",
    EARLIER: "used by the run that it started from",
}


@dataclass(frozen=True)
class TestedOn:
    """On what a classifier was tested: the member "tested_on" of metrics.json.

    Attributes:
        data: The folder, table or pattern that was tested on, absolute.
        root: Folder that the paths of its images are relative to, absolute.
        part: "test"; of a data set that is not split "all", or "new" where images that had a part in the
            training are left out.
        images: How many, unreadable ones included.
        unreadable: How many of them gave no prediction.
        digest: Of the digests of all images with their classes: equal for the same ones, wherever they are.
        model: Digest of the classifier's file, or of the graph and weights of one that was never saved.
        seen: How many of the images had a part in the training, by their use: "train", "val", "refit"
            (validated, then trained on), or "earlier" by a run that this one went on from. None if that is
            unknown.
        date: When, in UTC.
        seconds: How long the predictions took.
        features: What the head was applied to: "images", which the whole classifier forwarded, or
            "cache (PRECISION)", bottlenecks of the cache that the run was trained on.
        cached: How many of the images have their bottlenecks from the cache; the others were forwarded.
        left_out: How many more there were, of classes that the classifier does not know.
        used: How many more there were that had a part in the training.
        added: How many of the images are not in the data set of the run, where others of it are left out;
            None if that is unknown.
        gone: How many of the images cannot be read, and are known to the cache by their paths alone.
        compact: Whether predictions.csv lacks the probabilities of the classes.
        unfamiliar: How many are unlike the training images, as `predict` marks them; None where that is not
            known.
        corrections: Digest of what corrections of the images say; "" without any.
        corrected: The figures with corrections of the images; None without any.
        parity: What a comparison of both on some of the images gave: see `Parity`; None without one.
        fastcls: Version that tested.
    """

    data: str
    root: str
    part: str
    images: int
    digest: str
    model: str
    seen: dict[str, int] | None
    date: str
    unreadable: int = 0
    seconds: float = 0.0
    features: str = FORWARDED
    cached: int = 0
    left_out: int = 0
    used: int = 0
    added: int | None = None
    gone: int = 0
    compact: bool = False
    unfamiliar: int | None = None
    corrections: str = ""
    corrected: Corrected | None = None
    parity: Parity | None = None
    fastcls: str = fastcls.__version__

    def __str__(self) -> str:
        part = " (its test part)" if self.part == "test" else ""
        unreadable = f" ({self.unreadable} unreadable)" if self.unreadable else ""
        told = f"Tested on {self.data}{part}: {self._images}{unreadable}; {self._told}; {self.seconds:.1f} s"
        of_cache = self._of_cache if self.cached else []
        corrected = str(self.corrected) if self.corrected else ""
        return "\n".join(filter(None, [told, *of_cache, self._of_unfamiliar, corrected]))

    @property
    def _images(self) -> str:
        if not self.used:
            return count_of(self.images, "image")
        added = f", {self.added:,} of them added since then" if self.added else ""
        every = f"{self.images + self.used:,}"
        return (
            f"the {self.images:,} of {every} images that the run held out{added} (--images all: all {every})"
        )

    @property
    def _of_unfamiliar(self) -> str:
        """What is said of images that are unlike the training images; "" where all is as expected."""
        if self.unfamiliar is None:
            return _UNTOLD
        if not self.unfamiliar:
            return ""
        share = self.unfamiliar / max(1, self.images - self.unreadable)
        marked = count_of(self.unfamiliar, "image")
        told = f"{marked} ({share:.1%}) unfamiliar: unlike those trained on; about 5 % are expected"
        return f"{told} (above 1 in the column unfamiliarity of predictions.csv)"

    @property
    def _told(self) -> str:
        if self.seen is None:
            return "it is unknown which of them were used in training"
        told = [f"{count} {_IN_WORDS[use]}" for use, count in self.seen.items() if count]
        return ", ".join(told) or "none of them was used in training"

    @property
    def _of_cache(self) -> list[str]:
        own = "All" if self.cached == self.images else f"{self.cached:,} of them"
        others = "" if self.cached == self.images else ", the others were forwarded"
        check = self.parity or "Not checked through the whole classifier, as no image is there"
        lines = [f"{own} from the {self.features}{others}. {check}"]
        if self.gone:
            lines.append(f"{count_of(self.gone, 'image')} gone: known by the table of the cache alone")
        return lines

    def warn(self, place: Path | None) -> str:
        """Why the figures are not those of images that the classifier has never seen; "" if they are.

        Args:
            place: The run folder, or the file of the classifier.
        """
        if not self.seen or not any(self.seen.values()):
            return ""
        known = sum(self.seen.values())
        images, are = count_of(self.images, "image"), "is" if known == 1 else "are"
        new = self.images - known
        only = f"only the other {new:,}" if new else "none of them"
        return (
            f"{known:,} of the {images} {are} not new to the classifier ({self._told}): {only} can "
            f"tell how it does on new images. {self._way_out(place) if new else _OTHERS}"
        )

    def _way_out(self, place: Path | None) -> str:
        """How to test on new images alone."""
        if place is None:
            return 'Test on these alone: images="new"'
        command = f"fastcls test {shlex.quote(str(place))} {shlex.quote(self.data)}"
        return f"Test on these alone: {command} --images new"

    def is_same(self, folder: Path) -> bool:
        """Whether the result in a folder is of the same images, classes and classifier."""
        earlier = tested_on(folder)
        return (earlier.get("digest"), earlier.get("model")) == (self.digest, self.model)


def tested_on(folder: Path) -> Mapping[str, Any]:
    """What the result in a folder says of itself; empty where there is none, or it cannot be read."""
    try:
        found: Mapping[str, Any] = read_metrics(folder).get(MEMBER, {})
    except (OSError, ValueError):
        return {}
    return found

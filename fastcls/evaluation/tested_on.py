"""What a test says of itself: the member "tested_on" of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastcls
from fastcls import files
from fastcls.evaluation.corrected import Corrected
from fastcls.evaluation.parity import Parity
from fastcls.runs import METRICS
from fastcls.used_images import EARLIER, REFIT, TRAIN, VAL
from fastcls.wording import count_of

MEMBER = "tested_on"
FORWARDED = "images"
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
        part: "test", or "all" of a data set that is not split.
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
    gone: int = 0
    compact: bool = False
    unfamiliar: int | None = None
    corrections: str = ""
    corrected: Corrected | None = None
    parity: Parity | None = None
    fastcls: str = fastcls.__version__

    def __str__(self) -> str:
        part = f" (its {self.part} part)" if self.part != "all" else ""
        unreadable = f" ({self.unreadable} unreadable)" if self.unreadable else ""
        images = count_of(self.images, "image")
        told = f"Tested on {self.data}{part}: {images}{unreadable}; {self._told}; {self.seconds:.1f} s"
        of_cache = self._of_cache if self.cached else []
        corrected = str(self.corrected) if self.corrected else ""
        return "\n".join(filter(None, [told, *of_cache, self._of_unfamiliar, corrected]))

    @property
    def _of_unfamiliar(self) -> str:
        """What is said of images that are unlike the training images; "" where all is as expected."""
        if not self.unfamiliar:
            return ""
        share = self.unfamiliar / max(1, self.images - self.unreadable)
        marked = count_of(self.unfamiliar, "image")
        return f"{marked} ({share:.1%}) unfamiliar: unlike those trained on; about 5 % are expected"

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

    @property
    def warning(self) -> str:
        """Why the figures are not those of images that the classifier has never seen; "" if they are."""
        if not self.seen or not any(self.seen.values()):
            return ""
        known = sum(self.seen.values())
        images, are = count_of(self.images, "image"), "is" if known == 1 else "are"
        new = self.images - known
        only = f"only the other {new:,}" if new else "none of them"
        return (
            f"{known:,} of the {images} {are} not new to the classifier ({self._told}): {only} can "
            "tell how it does on new images. Test on new images alone"
        )

    def is_same(self, folder: Path) -> bool:
        """Whether the result in a folder is of the same images, classes and classifier."""
        earlier = tested_on(folder)
        return (earlier.get("digest"), earlier.get("model")) == (self.digest, self.model)


def tested_on(folder: Path) -> Mapping[str, Any]:
    """What the result in a folder says of itself; empty where there is none, or it cannot be read."""
    try:
        return dict(files.read_json(folder / METRICS)[MEMBER])
    except (OSError, ValueError, KeyError, TypeError):
        return {}

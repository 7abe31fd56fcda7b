"""The images that had a part in a classifier: what a run keeps of them, and which of others are the same."""

from __future__ import annotations

import contextlib
import csv
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastcls import files
from fastcls.tasks import Task
from fastcls.wording import count_of

if TYPE_CHECKING:  # `fastcls --help` has no use for arrays
    from fastcls.cache.samples import SampleRow

logger = logging.getLogger(__name__)
TRAIN, VAL = "train", "val"
# Validated on, and then, when nothing was left to choose, trained on as well.
REFIT = "refit"
# Trained or validated on by a run that this one went on from.
EARLIER = "earlier"
USES = (TRAIN, VAL, REFIT, EARLIER)


@dataclass(frozen=True, slots=True)
class UsedImage:
    """An image that had a part in a classifier: one line of `images.csv`.

    Attributes:
        path: As the data set had it.
        labels: Names of its classes.
        use: One of `USES`.
        digest: Its identity.
    """

    path: str
    labels: tuple[str, ...]
    use: str
    digest: str


@dataclass(frozen=True)
class UsedImages:
    """The images that had a part in a classifier.

    Attributes:
        images: Those that are known.
        is_complete: Whether these are all.
    """

    images: tuple[UsedImage, ...] = ()
    is_complete: bool = True

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {use}" for use, count in self.counts.items() if count)
        return f"<UsedImages: {counts or 'none'}{'' if self.is_complete else ', others unknown'}>"

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each use."""
        found = Counter(image.use for image in self.images)
        return {use: found[use] for use in USES}

    def warn_of(self, val: Sequence[str]) -> None:
        """Warn where a classifier that is trained further would be validated on what it has seen.

        Args:
            val: Digests of the images to validate on.
        """
        seen = {image.digest for image in self.images if image.use in (TRAIN, REFIT, EARLIER)}
        known = sum(digest in seen for digest in val)
        if known:
            logger.warning(
                "%s of the %s for validation had a part in the training that this one goes on from, or in "
                "one before that: figures on them are too good. Start from a run made with --no-refit on the "
                "same split",
                f"{known:,}",
                count_of(len(val), "image"),
            )

    def go_on(self, rows: Mapping[str, Sequence[SampleRow]]) -> UsedImages:
        """Those of a classifier that is trained further.

        Args:
            rows: What it is trained and validated on, by their use.
        """
        own = [UsedImage(r.path, r.labels, use, r.digest) for use in rows for r in rows[use]]
        digests = {image.digest for image in own}
        earlier = (replace(each, use=EARLIER) for each in self.images if each.digest not in digests)
        return replace(self, images=(*own, *earlier))

    def count(self, digests: Iterable[str]) -> dict[str, int] | None:
        """How many images of each use there are among others; None if all of these are unknown."""
        uses = {image.digest: image.use for image in reversed(self.images)}
        found = Counter(uses[digest] for digest in digests if digest in uses)
        return {use: found[use] for use in USES} if found or self.is_complete else None


UNKNOWN = UsedImages(is_complete=False)


def write_images(path: Path, images: Iterable[UsedImage], task: Task) -> None:
    """Write a table of images."""
    with files.atomic_path(path) as temporary, temporary.open("w", **files.CSV_TEXT) as file:
        writer = csv.writer(file)
        writer.writerow(("path", task.column, "use", "digest"))
        for image in images:
            writer.writerow((image.path, task.write_cell(image.labels), image.use, image.digest))


def used_digests(path: Path) -> set[str]:
    """The digests of a table of images; empty where there is none, or it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError), path.open(**files.CSV_TEXT) as file:
        return {row["digest"] for row in csv.DictReader(file)}
    return set()


def read_images(path: Path, task: Task) -> tuple[UsedImage, ...]:
    """Read what `write_images` has written."""
    with path.open(**files.CSV_TEXT) as file:
        lines = csv.reader(file)
        next(lines)
        return tuple(
            UsedImage(path, task.read_cell(labels), use, digest) for path, labels, use, digest in lines
        )

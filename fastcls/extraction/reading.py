"""Reads image files ahead of the engine: bytes -> digest -> pixels -> the views that a cache lacks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache.index import Index
from fastcls.cache.samples import Failure, FileState
from fastcls.data import image_bytes
from fastcls.data.decoder import Decoded, Decoder, UnreadableHere, UnreadableImage
from fastcls.data.pixel_quality import measure
from fastcls.data.views import make_view, row_key
from fastcls.extraction.shard_tasks import ShardTask, Wanted
from fastcls.specs import PixelRule

# A file younger than this when it is read could change again without a new time of modification.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Reading:
    """What was learnt by reading one image file.

    Attributes:
        path: As in the task.
        digest: The image's identity; "" when the file could not be read.
        state: State of the file; all zero when it cannot be relied on.
        reason: Why the image gives no bottleneck; "" when it does.
    """

    path: str
    digest: str
    state: FileState
    reason: str = ""

    def as_failure(self) -> Failure:
        """This reading as a line of the table of failures."""
        return Failure(self.path, self.digest, self.reason)


@dataclass(frozen=True)
class View:
    """One view of an image, or an image without any to forward.

    Attributes:
        reading: What was learnt by reading the image.
        caches: Those that want the image.
        key: What the view's row is found by.
        pixels: (H, W, 3) uint8.
        lacking: The caches that lack the row; none: there is nothing to forward.
        is_last: Whether this is the image's last view in the task.
        quality: What was measured of the image (see `pixel_quality.COLUMNS`); None of a view that is made of
            it.
    """

    reading: Reading
    caches: tuple[int, ...]
    key: str = ""
    pixels: np.ndarray | None = None
    lacking: tuple[int, ...] = ()
    is_last: bool = True
    quality: np.ndarray | None = None


# Of an image, by its root, path and rule: what was learnt of it, and its pixels; None where it is not there.
Take = Callable[[Path, str, PixelRule], tuple[Reading, Decoded] | None]


class ImageReader:
    """Reads and decodes one image file, and makes those of its views that some cache lacks.

    Args:
        task: Where the image is, and what its views are.
        decoder: Makes its pixels.
        known: The index of each cache.
        early: Has images that were read before; None where there are none.
        decoders: How many images are decoded at once, however many are read: that takes memory.
    """

    def __init__(
        self,
        task: ShardTask,
        decoder: Decoder,
        known: Sequence[Index],
        early: Take | None = None,
        decoders: int = 1,
    ) -> None:
        self._root, self._views, self._decoder, self._known = task.root, task.views, decoder, known
        self._early, self._decoding = early, threading.Semaphore(decoders)

    def __call__(self, wanted: Wanted) -> list[View]:
        taken = self._early(self._root, wanted.path, self._decoder.rule) if self._early else None
        if taken:
            reading, decoded = taken
            return self._views_of(wanted, reading, lambda: decoded)
        reading, data = identify(self._root, wanted.path)
        with self._decoding:
            return self._views_of(wanted, reading, lambda: self._decoder.decode_sized(data))

    def _views_of(self, wanted: Wanted, reading: Reading, read: Callable[[], Decoded]) -> list[View]:
        """The views that some cache lacks, of an image that is decoded if there are such views."""
        if reading.reason:
            return [View(reading, wanted.caches)]
        keys = [row_key(reading.digest, self._views, number) for number in range(wanted.views)]
        present = {place: self._known[place].locate(keys).present for place in wanted.caches}
        lacking = [tuple(place for place in present if not present[place][n]) for n in range(wanted.views)]
        if not any(lacking):
            return [View(reading, wanted.caches)]
        try:
            decoded = read()
        except UnreadableHere as error:  # with more memory or another package, a run tries it again
            return [View(replace(reading, digest="", reason=str(error)), wanted.caches)]
        except UnreadableImage as error:
            return [View(replace(reading, reason=str(error)), wanted.caches)]
        return [
            View(
                reading,
                wanted.caches,
                keys[number],
                make_view(decoded.pixels, reading.digest, self._views, number),
                lacking[number],
                quality=None if number else measure(decoded.pixels, decoded.original),
            )
            for number in range(wanted.views)
            if lacking[number]
        ]


def identify(root: Path, path: str) -> tuple[Reading, bytes]:
    """Read an image and say which it is.

    Returns:
        What was learnt, with a reason when it cannot be read, and the bytes of its file.
    """
    try:
        data, told = image_bytes.read_stated(image_bytes.located(root, path))
    except OSError as error:
        return Reading(path, "", FileState(), f"cannot be read: {error.strerror or error}"), b""
    state = FileState(*told)
    if not _is_settled(state, time.time_ns()):
        state = FileState()
    return Reading(path, files.digest(data), state), data


def _is_settled(state: FileState, now_ns: int) -> bool:
    """Whether a change of the file from now on would show in its state.

    The time of change (ctime) is the clock's at every change, whatever time of modification a file is
    given: one in the future does not matter.
    """
    return now_ns - state.ctime_ns >= _SETTLED_NS and not 0 <= now_ns - state.mtime_ns < _SETTLED_NS

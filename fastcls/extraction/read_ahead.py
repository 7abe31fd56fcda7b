"""Images that a worker reads and decodes before it is known what to forward them through."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from fastcls.data.decoder import Decoded, Decoder
from fastcls.data.image_formats import UnreadableImage
from fastcls.engines import engine_class
from fastcls.extraction.reading import Reading, identify
from fastcls.parallel import ahead
from fastcls.specs import PixelRule

_NICEST = 19


@dataclass(frozen=True)
class ReadAhead:
    """What a worker is to read while the trunk is being made: a guess, on which no result depends.

    Attributes:
        root: Folder that the paths are relative to, absolute.
        paths: Images, in the order in which they will probably be wanted.
        rule: How they become pixels.
        max_pixels: See `decoder.decode`.
        most_bytes: Of pixels to hold.
        threads: How many are read at once.
        engine: What will probably run, as "module:class".
    """

    root: Path
    paths: tuple[str, ...]
    rule: PixelRule
    max_pixels: int | None
    most_bytes: int
    threads: int
    engine: str


class EarlyImages:
    """Reads images in the background, until it is stopped or its memory is full.

    Args:
        order: What to read.
    """

    def __init__(self, order: ReadAhead) -> None:
        cv2.setNumThreads(1)  # as a worker does
        self._order = order
        self._decoder = Decoder(order.rule, order.max_pixels)
        self._images: dict[str, tuple[Reading, Decoded]] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._is_over.set()
        self._thread.join()

    def take(self, root: Path, path: str, rule: PixelRule) -> tuple[Reading, Decoded] | None:
        """What was learnt of an image, and its pixels, once; None if it is not here."""
        if (root, rule) != (self._order.root, self._order.rule):
            return None
        return self._images.pop(path, None)

    def _read(self) -> None:
        _give_way()
        engine = engine_class(self._order.engine)
        with contextlib.suppress(Exception):  # whoever needs it says what is wrong
            if engine.converts:  # it loads without TensorFlow, whose import would take the time of the parent
                engine.require()
        height, width = self._order.rule.size
        room = self._order.most_bytes // (3 * height * width)
        found = ahead(self._try, self._wanted(room), threads=self._order.threads, depth=self._order.threads)
        for path, image in found:
            if image:
                self._images[path] = image

    def _wanted(self, room: int) -> Iterator[str]:
        for path in self._order.paths[:room]:
            if self._is_over.is_set():
                return
            yield path

    def _try(self, path: str) -> tuple[str, tuple[Reading, Decoded] | None]:
        """An image; None for one that cannot be read, of which its task is to tell."""
        _give_way()
        reading, data = identify(self._order.root, path)
        with contextlib.suppress(UnreadableImage, MemoryError):
            return path, (reading, self._decoder.decode_sized(data))
        return path, None


def _give_way() -> None:
    """Let the parent, which builds the trunk, go first; only Linux has priorities of threads."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICEST)

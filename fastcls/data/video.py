"""Frames of video files and cameras as pixels."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fastcls.errors import DataError
from fastcls.files import PathLike, as_path
from fastcls.specs.checks import check_at_least

# FFmpeg prints what it thinks of a damaged file, in its own words; it looks here once per process.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
SUFFIXES = frozenset(
    (
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".mts",
        ".m2ts",
    )
)

_MOST_CAMERAS = 100
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture of a video or a camera.

    Attributes:
        name: `clip.mp4#frame=120`; frames are counted from 0.
        pixels: (h, w, 3) uint8 RGB; None where there is none.
        seconds: When it is shown, from the beginning of the video; None of a camera.
        reason: Why there are no pixels.
    """

    name: str
    pixels: np.ndarray | None
    seconds: float | None = None
    reason: str = ""


def is_video(path: str | Path) -> bool:
    """Whether a file is named like a video."""
    return Path(path).suffix.lower() in SUFFIXES


class Video:
    """The frames of a video file, one after the other.

    Args:
        path: The file.
        every: Take every Nth frame, the first one included.
    """

    def __init__(self, path: PathLike, every: int = 1) -> None:
        check_at_least("every", every, 1)
        self.path, self.every = as_path(path, "path"), every

    def __iter__(self) -> Iterator[Frame]:
        # Of an absolute path no part can be taken for a protocol.
        capture = cv2.VideoCapture(str(self.path.absolute()), cv2.CAP_FFMPEG)
        count = 0
        try:
            while capture.grab():
                if count % self.every == 0:
                    yield self._frame(capture, count)
                count += 1
            self._tell_of_missing(count, capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        if not count:
            yield Frame(str(self.path), None, reason=self._reason())

    def _tell_of_missing(self, count: int, announced: float) -> None:
        """Warn of a video that ends early; some formats know their length to about a frame in a hundred."""
        if 0 < count < 0.98 * announced - 1:
            logger.warning(
                "%s ends after %d of about %d frames: it is damaged, or was not copied whole",
                *(self.path, count, announced),
            )

    def _frame(self, capture: Any, number: int) -> Frame:
        seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        name = f"{self.path}#frame={number}"
        pixels = _retrieve(capture)
        return Frame(name, pixels, seconds, "" if pixels is not None else "damaged frame")

    def _reason(self) -> str:
        try:
            with self.path.open("rb"):
                return "no frame can be read: damaged, or of a format that OpenCV does not read"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"


class Camera:
    """The frames of a camera, as they come and without end.

    Args:
        index: The number of the camera, from 0.
        every: Take every Nth frame, the first one included.

    Raises:
        DataError: There is no such camera, or it is in use.
    """

    def __init__(self, index: int = 0, every: int = 1) -> None:
        check_at_least("index", index, 0)
        check_at_least("every", every, 1)
        self.name, self.every = f"camera:{index}", every
        # OpenCV takes greater numbers for a file format, or for none.
        self._capture = cv2.VideoCapture(index) if index < _MOST_CAMERAS else cv2.VideoCapture()
        if not self._capture.isOpened():
            raise DataError(
                f"Camera {index} cannot be opened: there is none, it is in use, or this process may not use "
                "it. Cameras are numbered from 0"
            )

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        try:
            while self._capture.grab():
                if number % self.every == 0:
                    pixels = _retrieve(self._capture)
                    reason = "" if pixels is not None else "damaged frame"
                    yield Frame(f"{self.name}#frame={number}", pixels, reason=reason)
                number += 1
        finally:
            self._capture.release()
        yield Frame(self.name, None, reason="the camera gives no more pictures")


def _retrieve(capture: Any) -> np.ndarray | None:
    """The frame that was grabbed last, (h, w, 3) uint8 RGB."""
    found, pixels = capture.retrieve()
    if not found or pixels is None:
        return None
    if pixels.ndim == 2:  # of some cameras
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)

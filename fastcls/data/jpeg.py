"""JPEG files: what their header says, and decoding at a reduced scale."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from fastcls.data.image_formats import UnreadableImage

# The GRAYSCALE names hold the factor alone: the COLOR names add the BGR bit, which excludes RGB.
_FLAGS = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    1: cv2.IMREAD_COLOR_RGB,
}
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCALABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_PROGRESSIVE = 0xC2
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"


@dataclass(frozen=True)
class Jpeg:
    """The header of a JPEG.

    Attributes:
        size: (height, width) as stored; (0, 0) where the header is damaged.
        is_scalable: Whether it can be decoded at a reduced scale.
        has_scans: Whether its coefficients come in several scans: the decoder holds them all, at any scale.
    """

    size: tuple[int, int] = (0, 0)
    is_scalable: bool = False
    has_scans: bool = False

    @classmethod
    def of(cls, data: bytes) -> Jpeg:
        """Read the header.

        Raises:
            UnreadableImage: The file lacks its end, or its header is damaged.
        """
        try:
            return cls._read(data)
        except (struct.error, IndexError) as error:
            raise UnreadableImage("damaged or truncated JPEG") from error

    @classmethod
    def _read(cls, data: bytes) -> Jpeg:
        found, components = cls(), 0
        for marker, start in _segments(data):
            if marker in _FRAMES and not components:
                height, width, components = struct.unpack_from(">HHB", data, start + 3)
                found = cls((height, width), marker in _SCALABLE_FRAMES, marker == _PROGRESSIVE)
            if marker == _START_OF_SCAN:
                # OpenCV returns some JPEGs that lack their end. Scan data cannot hold this by chance. It is
                # looked for from behind: reading all the bytes takes as long as a tenth of decoding them.
                if data.rfind(_END_OF_IMAGE, start) < 0:
                    raise UnreadableImage("truncated JPEG: no end-of-image marker")
                has_scans = found.has_scans or data[start + 2] < components
                found = cls(found.size, found.is_scalable, has_scans)
        return found

    def factor(self, size: tuple[int, int]) -> int:
        """The largest factor to scale down by while decoding that leaves no side below a wanted size."""
        shorter_side = min(self.size) if self.is_scalable else 0
        return next((factor for factor in (8, 4, 2) if shorter_side >= factor * max(size)), 1)

    def scaled(self, factor: int) -> tuple[int, int]:
        """(height, width) of what is decoded at a scale."""
        return -(-self.size[0] // factor), -(-self.size[1] // factor)


def read_jpeg(data: bytes, factor: int) -> np.ndarray | None:
    """(h, w, 3) uint8 RGB, scaled down by a factor; None when OpenCV gives up."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[factor])


def _segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Marker and start (of the length field) of each whole segment, up to the first scan.

    Embedded thumbnails are JPEGs too: they lie inside segments, so only walking steps over them.
    """
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker, length = data[start + 1], struct.unpack_from(">H", data, start + 2)[0]
        if marker == 0xFF:  # a fill byte
            start += 1
            continue
        if start + 2 + length > len(data):
            return
        yield marker, start + 2
        if marker == _START_OF_SCAN:
            return
        start += 2 + length

"""The one place where pixels are made: bytes of an image file in, RGB array of the wanted size out."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from fastcls.data import sources

# Part of a cache's fingerprint: whatever changes the pixels below must change this name.
# OpenCV's major version is in it because version 5 orients WebP files and version 4 does not.
RECIPE = f"stretch-bilinear-mean-jpegscale/1 opencv/{cv2.__version__.split('.')[0]}"

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
)
# The GRAYSCALE names hold the factor alone: the COLOR names add the BGR bit, which excludes RGB.
_JPEG_FLAGS = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    1: cv2.IMREAD_COLOR_RGB,
}
_JPEG_SCALABLE_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_JPEG_START_OF_SCAN = 0xDA
_JPEG_END_OF_IMAGE = b"\xff\xd9"


class UnreadableImage(Exception):  # noqa: N818 - data about one image, not an error that stops a run
    """One image cannot be used; the message is the reason, in one line."""


def read_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    """`decode` a file, or what a record of a TFRecord file holds.

    Raises:
        UnreadableImage: The file cannot be read or decoded.
    """
    return decode(read_bytes(path), size)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, or of what a record of a TFRecord file holds.

    Raises:
        UnreadableImage: The file cannot be read.
    """
    try:
        return sources.read_bytes(path)
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror or error}") from error


def decode(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decode an image file and stretch it to a size.

    The EXIF orientation is applied, gray becomes three equal channels, alpha is dropped, 16 bits become
    8, and an animation gives its first frame. Where OpenCV decodes the file and nothing is scaled down
    while decoding, the pixels are those of its full decode followed by its resize.

    A JPEG whose shorter side is at least 2, 4 or 8 times the longer wanted side is scaled down by that
    factor inside the decoder, several times faster. Averaging twice, there and in the resize, makes the
    image a little softer: on photos a pixel differs from that of full decoding by 2 levels of 255 on
    average at sizes 112 and 96. That moves MobileNetV2's bottlenecks by 13 % in the median, without a
    difference in accuracy that could be told from chance (82.0 and 82.4 % at 112, 77.1 and 76.2 % at 96).

    Args:
        data: The bytes of the file.
        size: (H, W) in pixels.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        UnreadableImage: The bytes are empty, truncated, damaged, no image, or over OpenCV's limits.
    """
    if not data:
        raise UnreadableImage("empty file")
    kind = _kind(data)
    try:
        image = _pixels(data, kind, size)
    except cv2.error as error:
        raise UnreadableImage(f"OpenCV refuses it: {' '.join(error.err.split())}") from error
    if image is None:
        raise UnreadableImage(f"damaged or truncated {kind}" if kind else "not an image OpenCV can read")
    return _resize(image, size)


def _kind(data: bytes) -> str:
    """The file format by its first bytes, "" when unknown."""
    return next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), "")


def _pixels(data: bytes, kind: str, size: tuple[int, int]) -> np.ndarray | None:
    """(h, w, 3) uint8 RGB at the file's own or a reduced size, None when OpenCV gives up."""
    buffer = np.frombuffer(data, np.uint8)
    if kind == "TIFF":
        return _tiff_pixels(buffer)
    factor = _jpeg_factor(data, size) if kind == "JPEG" else 1
    return cv2.imdecode(buffer, _JPEG_FLAGS[factor])


def _tiff_pixels(buffer: np.ndarray) -> np.ndarray | None:
    # At its own depth: asked for 8 bits, OpenCV 4 turns float into noise. It is asked for BGR because
    # it ignores the RGB flag at 16 bits. OpenCV multiplies 8-bit colors by alpha before dropping it.
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        return None
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    if image.dtype != np.uint8:
        raise UnreadableImage(
            f"TIFF of {image.dtype} pixels, whose range is unknown; convert it to 8 or 16 bits"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _jpeg_factor(data: bytes, size: tuple[int, int]) -> int:
    """The largest factor to scale down by while decoding that leaves no side below the wanted size."""
    shorter_side = 0
    for marker, start in _jpeg_segments(data):
        if marker in _JPEG_SCALABLE_FRAMES:
            shorter_side = min(struct.unpack_from(">HH", data, start + 3))
        # OpenCV returns some JPEGs that lack their end. Scan data cannot hold this marker by chance.
        if marker == _JPEG_START_OF_SCAN and data.find(_JPEG_END_OF_IMAGE, start) < 0:
            raise UnreadableImage("truncated JPEG: no end-of-image marker")
    return next((factor for factor in (8, 4, 2) if shorter_side >= factor * max(size)), 1)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
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
        if marker == _JPEG_START_OF_SCAN:
            return
        start += 2 + length


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear to n times the size, then the mean of n x n pixels.

    n is the least for which samples are at most two pixels apart, so that each pixel of the source has a
    part in one. Within one level of 255 of averaging over areas (`INTER_AREA`) on photos, at less than
    half of its cost.
    """
    height, width = size
    times = math.ceil(max(image.shape[0] / height, image.shape[1] / width, 2) / 2)
    sampled = cv2.resize(image, (times * width, times * height), interpolation=cv2.INTER_LINEAR)
    if times == 1:
        return sampled
    return cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA)


def _silence_opencv() -> None:
    # Failures come back as reasons. What libpng and libjpeg themselves print on stderr stays: only a
    # redirection of the whole process's stderr would hide it.
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


_silence_opencv()

"""The one place where pixels are made: bytes of an image file in, RGB array of the wanted size out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fastcls.data import image_bytes
from fastcls.data.image_files import open_file
from fastcls.data.image_formats import OversizedImage, UnreadableHere, UnreadableImage
from fastcls.errors import OptionError
from fastcls.machine import available_memory
from fastcls.specs import PixelRule

__all__ = [
    "Decoded",
    "Decoder",
    "OversizedImage",
    "UnreadableHere",
    "UnreadableImage",
    "affordable_pixels",
    "decode",
    "decode_sized",
    "pixel_rule",
    "read_bytes",
    "read_image",
]

# Names of rules, part of a cache's fingerprint: whatever changes the pixels below must change them.
# OpenCV's major version is there because its decoders differ.
_OPENCV = f"opencv/{cv2.__version__.split('.')[0]}"
_REDUCED, _FULL = f"jpeg-reduced/2 {_OPENCV}", f"full/2 {_OPENCV}"
_STRETCH = "stretch-bilinear-mean/1"
# Memory per pixel while decoding and resizing: 6 (OpenCV) to 10 (Pillow), and 16 for JPEG 2000.
_BYTES_PER_PIXEL = 12
_MEMORY_SHARE = 2  # the network needs memory too


def pixel_rule(size: tuple[int, int], *, full_decode: bool = False) -> PixelRule:
    """The rule by which this fastcls makes pixels.

    Args:
        size: (height, width) in pixels.
        full_decode: Decode JPEGs at their full size, however large they are.
    """
    return PixelRule((size[0], size[1]), _FULL if full_decode else _REDUCED, _STRETCH)


def affordable_pixels(threads: int) -> int:
    """How many pixels an image may have so that as many of them as there are threads fit into memory."""
    return available_memory() // (_MEMORY_SHARE * _BYTES_PER_PIXEL * max(1, threads))


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a file gave.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        original: (height, width) of the upright picture before it came to this size.
    """

    pixels: np.ndarray
    original: tuple[int, int]


@dataclass(frozen=True)
class Decoder:
    """Makes pixels by a rule, with a bound on the size of an image.

    Attributes:
        rule: The rule.
        max_pixels: See `decode`.

    Raises:
        OptionError: This fastcls does not implement the rule.
    """

    rule: PixelRule
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        known = [pixel_rule(self.rule.size, full_decode=full) for full in (False, True)]
        if self.rule not in known:
            made = f"{known[0].decode!r} or {known[1].decode!r}, {known[0].resize!r}"
            raise OptionError(
                f"Unknown pixel rule: {self.rule.decode!r}, {self.rule.resize!r}. Expected {made}, which "
                "this fastcls and OpenCV implement. Other pixels would change predictions: use the versions "
                "that made the model, or train it again"
            )

    @property
    def full_decode(self) -> bool:
        """Whether JPEGs are decoded at their full size."""
        return self.rule.decode == _FULL

    def decode(self, data: bytes) -> np.ndarray:
        """See the function."""
        return self.decode_sized(data).pixels

    def decode_sized(self, data: bytes) -> Decoded:
        """See the function."""
        return decode_sized(data, self.rule.size, full_decode=self.full_decode, max_pixels=self.max_pixels)

    def read(self, path: Path) -> np.ndarray:
        """`decode` a file, or what a record of a TFRecord file holds."""
        return self.decode(read_bytes(path))

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Bring pixels that are decoded already to the size, as `decode` does.

        Args:
            image: (h, w, 3) uint8 RGB.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            OversizedImage: The image is above the bound.
        """
        height, width = image.shape[:2]
        if self.max_pixels is not None:
            _require_fitting((height, width), 0, self.rule.size, self.max_pixels)
        return _resize(np.ascontiguousarray(image), self.rule.size)


def read_image(path: Path, size: tuple[int, int], *, full_decode: bool = False) -> np.ndarray:
    """`decode` a file, or what a record of a TFRecord file holds.

    Raises:
        UnreadableImage: The file cannot be read or decoded.
    """
    return decode(read_bytes(path), size, full_decode=full_decode)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, or of what a record of a TFRecord file holds.

    Raises:
        UnreadableImage: The file cannot be read.
    """
    try:
        return image_bytes.read_bytes(path)
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror or error}") from error


def decode(
    data: bytes, size: tuple[int, int], *, full_decode: bool = False, max_pixels: int | None = None
) -> np.ndarray:
    """Decode an image file and stretch it to a size.

    The EXIF orientation is applied, gray becomes three equal channels, alpha is dropped, 16 bits become
    8, and an animation gives its first frame. Where OpenCV decodes the file and nothing is scaled down
    while decoding, the pixels are those of its full decode followed by its resize, as in the README. Pillow
    decodes what OpenCV gets wrong: GIF, AVIF, PNM, and some kinds of BMP and TIFF.

    A JPEG whose shorter side is at least 2, 4 or 8 times the longer wanted side is scaled down by that
    factor inside the decoder, several times faster. Averaging twice, there and in the resize, makes the
    image a little softer: on photos a pixel differs from that of full decoding by 2.6 levels of 255 on
    average at sizes 112 and 96, by at most 10 in any one photo. That moves MobileNetV2's bottlenecks by
    13 % in the median, without a difference in accuracy that could be told from chance (82.0 and 82.4 % at
    112, 77.1 and 76.2 % at 96).

    Args:
        data: The bytes of the file.
        size: (H, W) in pixels.
        full_decode: Decode a JPEG at its full size always.
        max_pixels: Refuse an image whose header says that decoding or resizing it takes more pixels,
            before memory is allocated; None for no bound.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous.

    Raises:
        OversizedImage: The image exceeds the bound, or memory runs out.
        UnreadableImage: The bytes are empty, truncated, damaged, no image, or over OpenCV's limits.
    """
    return decode_sized(data, size, full_decode=full_decode, max_pixels=max_pixels).pixels


def decode_sized(
    data: bytes, size: tuple[int, int], *, full_decode: bool = False, max_pixels: int | None = None
) -> Decoded:
    """`decode`, and how large the picture was."""
    if not data:
        raise UnreadableImage("empty file")
    opened = open_file(data, None if full_decode else size)
    if max_pixels is not None:
        _require_fitting(opened.size, opened.held, size, max_pixels)
    try:
        image = opened.read()
        if image is None:
            raise UnreadableImage(f"damaged or truncated {opened.kind}")
        return Decoded(_resize(image, size), opened.original(image))
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise OversizedImage("not enough memory to decode it") from error
        raise UnreadableImage(f"OpenCV refuses it: {' '.join(error.err.split())}") from error


def _require_fitting(stored: tuple[int, int], held: int, size: tuple[int, int], max_pixels: int) -> None:
    height, width = stored
    times = _times(stored, size)
    resized = times * times * size[0] * size[1] if times > 1 else 0
    most = max(height * width, held, resized)
    if most > max_pixels:
        more = f" ({most:,} while resizing)" if most == resized else ""
        raise OversizedImage(
            f"{height}x{width} ({height * width:,}) pixels{more} exceed the limit of {max_pixels:,}. Raise "
            "it with --max-pixels, or use a machine with more memory"
        )


def _times(stored: tuple[int, int], size: tuple[int, int]) -> int:
    """How many samples in each direction a pixel of the result averages."""
    return math.ceil(max(stored[0] / size[0], stored[1] / size[1], 2) / 2)


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear to n times the size, then the mean of n x n pixels.

    n is the smallest for which samples are at most two pixels apart, so that every source pixel
    contributes. It costs less than half of averaging over areas at once (`INTER_AREA`), from which photos
    of 320x240 differ at 224 by up to 2.9 levels of 255 on average, one in five by more than one level.
    """
    height, width = size
    times = _times(image.shape[:2], size)
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

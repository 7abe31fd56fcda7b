"""The one place where pixels are made: bytes of an image file in, RGB array of the wanted size out."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fastcls.data import image_bytes
from fastcls.data.image_files import open_file
from fastcls.data.image_formats import OversizedImage, UnreadableHere, UnreadableImage
from fastcls.data.resizing import Resizing
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
    "pixel_rule",
    "read_bytes",
    "read_image",
]

# Names of rules, part of a cache's fingerprint: whatever changes the pixels below must change them.
# OpenCV's major version is there because its decoders differ.
_OPENCV = f"opencv/{cv2.__version__.split('.')[0]}"
_REDUCED, _FULL = f"jpeg-reduced/2 {_OPENCV}", f"full/2 {_OPENCV}"
# Memory per pixel while decoding and resizing: 6 (OpenCV) to 10 (Pillow), and 16 for JPEG 2000.
_BYTES_PER_PIXEL = 12
_MEMORY_SHARE = 2  # the network needs memory too


def pixel_rule(
    size: tuple[int, int], *, full_decode: bool = False, resize: str = "stretch", crop: Fraction | int = 1
) -> PixelRule:
    """The rule by which this fastcls makes pixels.

    Args:
        size: (height, width) in pixels.
        full_decode: Decode JPEGs at their full size, however large they are.
        resize: "stretch" all of an image to the size, or "crop" its middle; see `CutSpec`.
        crop: See `Resizing`; it counts for "crop" alone.
    """
    resizing = Resizing(Fraction(crop) if resize == "crop" else None)
    return PixelRule((size[0], size[1]), _FULL if full_decode else _REDUCED, resizing.name)


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
        if self.rule.decode not in (_FULL, _REDUCED) or not Resizing.read(self.rule.resize):
            made = f"{_REDUCED!r} or {_FULL!r}, {Resizing().name!r} or {Resizing(Fraction(1)).name!r}"
            raise OptionError(
                f"Unknown pixel rule: {self.rule.decode!r}, {self.rule.resize!r}. Expected {made}, which "
                "this fastcls and OpenCV implement. Other pixels would change predictions: use the versions "
                "that made the model, or train it again"
            )

    @property
    def full_decode(self) -> bool:
        """Whether JPEGs are decoded at their full size."""
        return self.rule.decode == _FULL

    @property
    def resizing(self) -> Resizing:
        """How an image comes to the size."""
        return Resizing.read(self.rule.resize) or Resizing()

    def decode(self, data: bytes) -> np.ndarray:
        """See the function."""
        return self.decode_sized(data).pixels

    def decode_sized(self, data: bytes) -> Decoded:
        """`decode`, and how large the picture was."""
        if not data:
            raise UnreadableImage("empty file")
        opened = open_file(data, None if self.full_decode else self.resizing.wanted(self.rule.size))
        self._require_fitting(opened.size, opened.held)
        try:
            image = opened.read()
            if image is None:
                raise UnreadableImage(f"damaged or truncated {opened.kind}")
            return Decoded(self.resizing.apply(image, self.rule.size), opened.original(image))
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise OversizedImage("not enough memory to decode it") from error
            raise UnreadableImage(f"OpenCV refuses it: {' '.join(error.err.split())}") from error

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
        self._require_fitting(image.shape[:2], 0)
        return self.resizing.apply(image, self.rule.size)

    def _require_fitting(self, stored: tuple[int, int], held: int) -> None:
        if self.max_pixels is None:
            return
        height, width = stored
        resized = self.resizing.held(stored, self.rule.size)
        most = max(height * width, held, resized)
        if most > self.max_pixels:
            more = f" ({most:,} while resizing)" if most == resized else ""
            raise OversizedImage(
                f"{height}x{width} ({height * width:,}) pixels{more} exceed the limit of "
                f"{self.max_pixels:,}. Raise it with --max-pixels, or use a machine with more memory"
            )


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
    return Decoder(pixel_rule(size, full_decode=full_decode), max_pixels).decode(data)


def _silence_opencv() -> None:
    # Failures come back as reasons. What libpng and libjpeg themselves print on stderr stays: only a
    # redirection of the whole process's stderr would hide it.
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


_silence_opencv()

"""Image files by their headers: size, and which library decodes them."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import features

from fastcls.data.image_formats import UnreadableHere, UnreadableImage, describe_other, kind_of
from fastcls.data.jpeg import Jpeg, read_jpeg
from fastcls.data.pillow_images import has_heif, open_image, orientation, read_rgb
from fastcls.data.tiff import Layout, read_tiff

_BITFIELDS = (3, 6)  # compressions of a BMP: masks say where the colors are
_EMBEDDED = (4, 5)  # a whole JPEG or PNG
# How a picture is turned upright, by its EXIF orientation.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True)
class Opened:
    """An image file of which the header was read.

    Attributes:
        kind: Its format.
        size: (height, width) of what `read` gives, or that turned by a right angle.
        held: Pixels that the decoder holds meanwhile, if that is more.
        read: Makes the pixels, (h, w, 3) uint8 RGB; None where the file is damaged.
        unscaled: `size` before the decoder scales it down; None where it does not.
    """

    kind: str
    size: tuple[int, int]
    read: Callable[[], np.ndarray | None]
    held: int = 0
    unscaled: tuple[int, int] | None = None

    def original(self, read: np.ndarray) -> tuple[int, int]:
        """(height, width) of the upright picture at its full size.

        Args:
            read: What `read` gave.
        """
        height, width = read.shape[:2]
        if self.unscaled is None:
            return height, width
        return self.unscaled if (height, width) == self.size else self.unscaled[::-1]


@functools.cache
def is_readable(kind: str) -> bool:
    """Whether the installed packages read a format."""
    # Asked for the writer, which OpenCV has where it has the reader: asking for that takes a file.
    needed: dict[str, Callable[[], bool | None]] = {
        "WebP": lambda: cv2.haveImageWriter(".webp") and features.check("webp"),
        "TIFF": lambda: cv2.haveImageWriter(".tif") and features.check("libtiff"),
        "JPEG 2000": lambda: cv2.haveImageWriter(".jp2") and features.check("jpg_2000"),
        "AVIF": lambda: features.check("avif"),
        "HEIC": has_heif,
    }
    return bool(needed[kind]()) if kind in needed else True


def how_to_read(kind: str) -> str:
    """What to do about a format that the installed packages do not read."""
    if kind == "HEIC":
        return "To read HEIC: pip install pillow-heif"
    return f"The installed OpenCV or Pillow lacks {kind}: convert it to JPEG or PNG"


def open_file(data: bytes, size: tuple[int, int] | None) -> Opened:
    """Read the header of an image file.

    Args:
        data: Its bytes.
        size: (height, width) that is wanted of it: a JPEG may be scaled down while it is decoded, to no
            less than that. None for all pixels.

    Raises:
        UnreadableImage: The file is damaged, no image, or an image that is not read.
    """
    kind = kind_of(data)
    if not kind:
        raise UnreadableImage(f"not an image: {describe_other(data)}")
    if not is_readable(kind):
        raise UnreadableHere(f"{kind} image, not readable here. {how_to_read(kind)}")
    if kind == "JPEG":
        return _open_jpeg(data, size)
    return _OPENERS[kind](data, kind)


def _open_jpeg(data: bytes, size: tuple[int, int] | None) -> Opened:
    header = Jpeg.of(data)
    factor = header.factor(size) if size else 1
    # The coefficients of several scans take up to half as much as what a pixel is reckoned to take.
    held = header.size[0] * header.size[1] // 2 if header.has_scans else 0
    unscaled = header.size if factor > 1 else None
    return Opened("JPEG", header.scaled(factor), lambda: read_jpeg(data, factor), held, unscaled)


def _open_png(data: bytes, kind: str) -> Opened:
    width, height = _unpack(">II", data, 16, kind)
    return Opened(kind, (height, width), lambda: _read_opencv(data))


def _open_bmp(data: bytes, kind: str) -> Opened:
    if _unpack("<I", data, 14, kind) == (12,):  # OS/2's
        (width, height, bits), compression = _unpack("<HH2xH", data, 18, kind), 0
    else:
        width, height, bits, compression = _unpack("<ii2xHI", data, 18, kind)
    if compression in _EMBEDDED:
        raise UnreadableImage("unsupported: a BMP that holds a JPEG or PNG. Save that as a file of its own")
    if compression in _BITFIELDS or bits == 16:  # of OpenCV they get other colors
        return _open_pillow(data, kind)
    return Opened(kind, (abs(height), abs(width)), lambda: _read_opencv(data))


def _open_webp(data: bytes, kind: str) -> Opened:
    opened = open_image(data, kind)
    # OpenCV 4 turns no WebP, and OpenCV 5 none whose EXIF data begins as those in a JPEG do.
    turned = orientation(opened)

    def read() -> np.ndarray | None:
        image = _read_opencv(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        return _UPRIGHT[turned](image) if turned in _UPRIGHT and image is not None else image

    return Opened(kind, opened.size[::-1], read)


def _open_gif(data: bytes, kind: str) -> Opened:
    if not _is_whole_gif(data):
        raise UnreadableImage("damaged or truncated GIF")
    return _open_pillow(data, kind)


def _open_jpeg_2000(data: bytes, kind: str) -> Opened:
    return Opened(kind, open_image(data, kind).size[::-1], lambda: _read_opencv(data))


def _open_tiff(data: bytes, kind: str) -> Opened:
    layout = Layout.of(data)
    return Opened(kind, layout.size, lambda: read_tiff(data, layout))


def _open_pillow(data: bytes, kind: str) -> Opened:
    image = open_image(data, kind)
    return Opened(kind, image.size[::-1], lambda: read_rgb(image, kind))


_OPENERS: dict[str, Callable[[bytes, str], Opened]] = {
    "PNG": _open_png,
    "BMP": _open_bmp,
    "WebP": _open_webp,
    "GIF": _open_gif,
    "AVIF": _open_pillow,
    "HEIC": _open_pillow,
    "JPEG 2000": _open_jpeg_2000,
    "PNM": _open_pillow,
    "Sun raster": _open_pillow,
    "TIFF": _open_tiff,
}


def _read_opencv(data: bytes, flags: int = cv2.IMREAD_COLOR_RGB) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


def _unpack(layout: str, data: bytes, start: int, kind: str) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, start)
    except struct.error as error:
        raise UnreadableImage(f"damaged or truncated {kind}") from error


def _is_whole_gif(data: bytes) -> bool:
    """Whether the blocks of a GIF follow each other to its trailer: Pillow shows half of a file too."""
    start = 13 + _color_table(data, 10)
    while start < len(data):
        if data[start] == 0x3B:  # the trailer
            return True
        if data[start] == 0x21:  # an extension
            start += 2
        elif data[start] == 0x2C:  # a frame
            start += 11 + _color_table(data, start + 9)
        else:
            return False
        while start < len(data) and data[start]:
            start += 1 + data[start]
        start += 1
    return False


def _color_table(data: bytes, place: int) -> int:
    """How long the color table is that the flags at a place tell of, in bytes."""
    flags = data[place] if place < len(data) else 0
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0

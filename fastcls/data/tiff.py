"""TIFF files: what their first picture is made of, and who decodes it."""

from __future__ import annotations

import operator
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from fastcls.data.image_formats import OversizedImage, UnreadableImage
from fastcls.data.pillow_images import UnknownLayout, open_image, read_rgb

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_PLANAR, _EXTRAS, _SAMPLE_FORMAT = 284, 338, 339
_STRIPS, _TILES = (273, 279), (324, 325)  # where they are, and how long
_TAGS = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRAS, _SAMPLE_FORMAT}
_TAGS |= {*_STRIPS, *_TILES}
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_NUMBERS = {2: "int", 3: "float", 5: "complex int", 6: "complex float"}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
# Samples of a color, by PhotometricInterpretation: gray (2), RGB, palette, CMYK, YCbCr.
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, 3: 1, 5: 4, 6: 3}
_OTHER_COLORS = {8: "Lab colors", 9: "Lab colors", 10: "Lab colors", 32803: "raw sensor data"} | {
    34892: "raw sensor data"
}
_DEPTHS = {1, 2, 4, 8, 16}
# What every copy of libtiff decodes: where one of these fails, the file is damaged.
_COMMON = {1: "", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG", 8: "Deflate"} | {
    32773: "PackBits",
    32946: "Deflate",
}
_RARE = {6: "old JPEG", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP"}
_ASSOCIATED = 1


@dataclass(frozen=True)
class Layout:
    """What the first picture of a TIFF is made of.

    Attributes:
        size: (height, width).
        bits: Of each sample.
        numbers: Kinds of numbers that the samples are; 1 is unsigned.
        samples: Per pixel.
        photometric: What they mean.
        extras: Kinds of the samples beyond the colors.
        compression: Its number.
        is_planar: Whether it says that each sample has a plane of its own.
    """

    size: tuple[int, int]
    bits: tuple[int, ...]
    numbers: tuple[int, ...]
    samples: int
    photometric: int
    extras: tuple[int, ...]
    compression: int
    is_planar: bool

    @classmethod
    def of(cls, data: bytes) -> Layout:
        """Read it.

        Raises:
            UnreadableImage: The file is truncated.
        """
        try:
            tags = _read_tags(data)
            if tags.get(_PLANAR) == (2,):  # what lacks of planes, the decoders leave black
                _require_whole(data, tags)
            samples = tags.get(_SAMPLES, (1,))[0]
            return cls(
                (tags[_HEIGHT][0], tags[_WIDTH][0]),
                tags.get(_BITS, (1,)),
                tags.get(_SAMPLE_FORMAT, (1,)),
                samples,
                tags[_PHOTOMETRIC][0],
                tags.get(_EXTRAS, ()),
                tags.get(_COMPRESSION, (1,))[0],
                tags.get(_PLANAR, (1,))[0] == 2,
            )
        except (struct.error, KeyError, IndexError, OverflowError) as error:
            raise UnreadableImage("damaged or truncated TIFF") from error

    def require_colors(self) -> None:
        """Raise UnreadableImage for samples that are no colors of 1 to 16 bits."""
        number = next((number for number in self.numbers if number in _NUMBERS), 1)
        if number != 1 or not set(self.bits) <= _DEPTHS:
            named = f"{_NUMBERS.get(number, 'uint')}{max(self.bits)}"
            raise UnreadableImage(f"unsupported: a TIFF of {named} pixels. Convert it to 8 or 16 bits")
        if self.photometric not in _COLORS:
            named = _OTHER_COLORS.get(self.photometric, f"colors of kind {self.photometric}")
            raise UnreadableImage(f"unsupported: a TIFF of {named}. Convert it to RGB")

    @property
    def has_extras(self) -> bool:
        """Whether there is alpha, or another sample that is no color."""
        return self.samples > _COLORS[self.photometric]

    @property
    def has_planes(self) -> bool:
        """Whether its samples lie in several planes."""
        return self.is_planar and self.samples > 1

    @property
    def is_common(self) -> bool:
        """Whether it is certainly read unless it is damaged."""
        return self.compression in _COMMON and not (self.has_planes and self.has_extras)

    @property
    def is_misread(self) -> bool:
        """Whether Pillow takes its samples for others: of planes, it knows those of 8 bits alone."""
        is_inverted = self.photometric == _WHITE_IS_ZERO
        return (self.is_planar and (is_inverted or set(self.bits) != {8})) or (is_inverted and self.is_deep)

    @property
    def is_deep(self) -> bool:
        """Whether it has 16 bits."""
        return max(self.bits) == 16

    def __str__(self) -> str:
        compression = _COMMON.get(self.compression, _RARE.get(self.compression, f"no. {self.compression}"))
        return ", ".join(
            [
                f"{'/'.join(sorted({str(bits) for bits in self.bits}))} bits",
                f"{self.samples} sample{'s' * (self.samples > 1)}",
                *(["white is zero"] if self.photometric == _WHITE_IS_ZERO else []),
                *(["premultiplied alpha"] if _ASSOCIATED in self.extras else []),
                *(["separate planes"] if self.has_planes else []),
                *([f"compressed by {compression}"] if compression else []),
            ]
        )


def read_tiff(data: bytes, layout: Layout) -> np.ndarray | None:
    """(h, w, 3) uint8 RGB; None when the file is damaged.

    OpenCV multiplies colors by alpha, leaves the planes of 16 bits in disorder where it keeps their depth,
    and knows neither small gray values nor rare compressions. Pillow takes 16 bits in uncompressed planes
    for 8, and does not know gray of 16 bits with alpha.
    """
    layout.require_colors()
    buffer = np.frombuffer(data, np.uint8)
    is_straight = layout.photometric in (_BLACK_IS_ZERO, _RGB) and not layout.has_planes
    if layout.is_deep and is_straight and _ASSOCIATED not in layout.extras:
        image = _read_deep(buffer)
    else:
        image = None if layout.has_extras else cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    if image is not None:
        return image
    try:
        if layout.is_misread:
            raise UnknownLayout
        return read_rgb(open_image(data, "TIFF"), "TIFF")
    except OversizedImage:
        raise
    except UnreadableImage as error:
        if layout.is_common and not isinstance(error, UnknownLayout):
            return None
        raise UnreadableImage(f"damaged, or an unsupported TIFF: {layout}") from error


def _read_deep(buffer: np.ndarray) -> np.ndarray | None:
    # Asked for BGR because OpenCV ignores the RGB flag at 16 bits.
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_BGR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        return None
    if image.dtype == np.uint16:  # not where there is gray with alpha
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _require_whole(data: bytes, tags: Mapping[int, tuple[int, ...]]) -> None:
    """Raise IndexError for a file that ends before its last strip or tile does."""
    for places, lengths in (_STRIPS, _TILES):
        ends = map(operator.add, tags.get(places, ()), tags.get(lengths, ()))
        if max(ends, default=0) > len(data):
            raise IndexError


def _read_tags(data: bytes) -> dict[int, tuple[int, ...]]:
    """The tags in the first directory of a TIFF or BigTIFF that a layout is made of."""
    order, is_big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    word, count_type, place = ("Q", "Q", 8) if is_big else ("I", "H", 4)
    width = struct.calcsize(f"={word}")
    (start,) = struct.unpack_from(f"{order}{word}", data, place)
    (entries,) = struct.unpack_from(f"{order}{count_type}", data, start)
    tags = {}
    for number in range(entries):
        entry = start + struct.calcsize(f"={count_type}") + number * (4 + 2 * width)
        tag, kind, count = struct.unpack_from(f"{order}HH{word}", data, entry)
        if tag not in _TAGS or kind not in _TYPES or count > len(data):
            continue
        values = f"{order}{count}{_TYPES[kind]}"
        where = entry + 4 + width
        if struct.calcsize(values) > width:
            (where,) = struct.unpack_from(f"{order}{word}", data, where)
        tags[tag] = struct.unpack_from(values, data, where)
    return tags

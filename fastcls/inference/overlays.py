"""Explanations as pictures: the photo, and the evidence for each class on it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
from PIL import features

from fastcls.data.decoder import UnreadableImage
from fastcls.data.image_files import open_file
from fastcls.data.pillow_images import read_rgb
from fastcls.data.resizing import Resizing
from fastcls.evaluation.fonts import drawable, font_for
from fastcls.evaluation.text_table import shorten, text_width
from fastcls.inference.explainer import Explanation
from fastcls.inference.inputs import Single, opened
from fastcls.specs import DrawSpec

# How much of the colors is seen where there is no evidence, and where there is the most.
_FAINTEST, _STRONGEST = 0.35, 0.65
_GAP = 4  # pixels
_LETTERS = 26  # of a common size stand side by side on a picture
_INK, _PAPER = (20, 20, 20), 255


def overlay(explanation: Explanation, place: int = 0, draw: DrawSpec | None = None) -> np.ndarray:
    """The evidence for one of the explained classes as colors on the image, in the image's own shape.

    Args:
        explanation: Of a readable image, whose file is still there.
        place: Which of its classes.
        draw: Colors and size.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        UnreadableImage: The image is gone.
    """
    draw = draw or DrawSpec()
    return _blend(photo(explanation.image, draw.size), explanation, place, draw.colormap)


def picture(explanation: Explanation, numbers: Sequence[int], draw: DrawSpec | None = None) -> np.ndarray:
    """The image, and beside it the evidence for each of its explained classes, with names above.

    Args:
        explanation: Of a readable image, whose file is still there.
        numbers: Of the explained classes: they are written where no font has the characters of a name.
        draw: Colors and size.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    draw = draw or DrawSpec()
    plain = photo(explanation.image, draw.size)
    name = explanation.path.name if explanation.path else f"image {explanation.index}"
    tiles = [captioned(plain, name if explanation.class_names else "no class", "")]
    known = zip(numbers, explanation.class_names, explanation.confidences, strict=True)
    for place, (number, class_name, confidence) in enumerate(known):
        tile = _blend(plain, explanation, place, draw.colormap)
        tiles.append(captioned(tile, class_name, f" {confidence:.1%}", f"class {number}"))
    return side_by_side(tiles)


def photo(image: Single, size: int) -> np.ndarray:
    """An image as it is, upright, its longer side that of a picture: (h, w, 3) uint8 RGB.

    Raises:
        UnreadableImage: It cannot be read.
    """
    pixels = _pixels(image, size)
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    wanted = max(1, round(width * scale)), max(1, round(height * scale))
    result: np.ndarray = cv2.resize(
        pixels, wanted, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    return result


def captioned(image: np.ndarray, text: str, figure: str = "", instead: str = "image") -> np.ndarray:
    """An image below a line of text, which is shortened to its width.

    Args:
        image: (h, w, 3) uint8 RGB.
        text: Any text; what cannot be printed is replaced.
        figure: What follows and is not shortened.
        instead: What is written in place of a text that no installed font has the characters of.
    """
    from PIL import ImageDraw

    width = image.shape[1]
    points = max(9, round(width / _LETTERS * 1.2))
    text = shorten(drawable(text), 4 * _LETTERS)
    file = font_for(text, shapes=features.check("raqm"))
    if file is None:
        text, file = instead, ""
    font = _font(file, points)
    while text_width(text) > 1 and font.getlength(text + figure) > width - 2 * _GAP:
        text = shorten(text, text_width(text) - 1)
    strip = PIL.Image.new("RGB", (width, round(1.7 * points)), (_PAPER,) * 3)
    place = (_GAP, strip.height // 2)
    ImageDraw.Draw(strip).text(place, text + figure, fill=_INK, font=font, anchor="lm")
    return np.concatenate([np.asarray(strip), image])


def side_by_side(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one height beside each other, on white: (h, w, 3) uint8."""
    gap = np.full((tiles[0].shape[0], _GAP, 3), _PAPER, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def sheet(pictures: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Pictures of any shapes in rows on white, which are as wide as the sheet and of about one height.

    Args:
        pictures: (h, w, 3) uint8 each.
        height: Of a row, about, in pixels.
        width: Of the sheet.

    Returns:
        (H, width, 3) uint8.
    """
    rows: list[list[np.ndarray]] = [[]]
    for one in pictures:
        if rows[-1] and _width(rows[-1], height) >= width - 2 * _GAP:
            rows.append([])
        rows[-1].append(one)
    parts = [np.full((_GAP, width, 3), _PAPER, np.uint8)]
    for row in rows:
        parts += [_justified(row, height, width), parts[0]]
    return np.concatenate(parts)


def _width(row: Sequence[np.ndarray], height: float) -> float:
    """How wide a row is whose pictures have one height."""
    return height * sum(one.shape[1] / one.shape[0] for one in row) + _GAP * (len(row) - 1)


def _justified(row: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Pictures side by side, smaller where that makes them end at the edge."""
    gaps = _GAP * (len(row) + 1)
    common = max(1, min(height, int(height * (width - gaps) / (_width(row, height) - _GAP * (len(row) - 1)))))
    page = np.full((common, width, 3), _PAPER, np.uint8)
    left = _GAP
    for one in row:
        right = min(width - _GAP, left + max(1, round(one.shape[1] * common / one.shape[0])))
        page[:, left:right] = cv2.resize(one, (right - left, common), interpolation=cv2.INTER_AREA)
        left = right + _GAP
    return page


def shrunk(image: np.ndarray, height: int) -> np.ndarray:
    """An image of at most a height in pixels."""
    scale = min(height / image.shape[0], 1)
    wanted = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small: np.ndarray = cv2.resize(image, wanted, interpolation=cv2.INTER_AREA)
    return small


def encoded(image: np.ndarray, suffix: str) -> bytes:
    """(h, w, 3) uint8 RGB as the bytes of an image file of the kind that a suffix names."""
    return bytes(cv2.imencode(suffix, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def _blend(plain: np.ndarray, explanation: Explanation, place: int, colormap: str) -> np.ndarray:
    heat = _spread(explanation.maps[place], plain.shape[:2], explanation.resizing)[..., None]
    colors = _colors(colormap)[(heat[..., 0] * 255).round().astype(np.uint8)]
    gray = cv2.cvtColor(plain, cv2.COLOR_RGB2GRAY)[..., None]  # so that all colors are those of the map
    share = _FAINTEST + (_STRONGEST - _FAINTEST) * heat
    return (gray * (1 - share) + colors * share).round().astype(np.uint8)


def _spread(heat: np.ndarray, shape: tuple[int, int], resizing: Resizing) -> np.ndarray:
    """Evidence on a picture of a shape; there is none beside what the model saw of it: (h, w) float32."""
    seen = resizing.window(shape, heat.shape)
    result = np.zeros(shape, np.float32)
    part = cv2.resize(heat, (seen.width, seen.height), interpolation=cv2.INTER_LINEAR)
    seen.of(result)[:] = np.clip(part, 0, 1)
    return result


@functools.cache
def _colors(colormap: str) -> np.ndarray:
    """The colors of a map, (256, 3) uint8 RGB."""
    steps = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(steps, getattr(cv2, f"COLORMAP_{colormap.upper()}"))[:, 0, ::-1]


def _pixels(image: Single, size: int) -> np.ndarray:
    """All pixels of an image; of a JPEG not many more than a picture needs."""
    content = opened(image)
    if isinstance(content, np.ndarray):
        return np.ascontiguousarray(content)
    if isinstance(content, PIL.Image.Image):
        return read_rgb(content, content.format or "Pillow image")
    pixels = open_file(content, (size, size)).read()
    if pixels is None:
        raise UnreadableImage("damaged or truncated")
    return pixels


@functools.cache
def _font(file: str, points: int) -> Any:
    """A font of a size; "" stands for the one that comes with Matplotlib."""
    import matplotlib as mpl
    from PIL import ImageFont

    own = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(file or own, points)

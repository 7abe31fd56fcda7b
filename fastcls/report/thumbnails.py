"""Small pictures of images, as text that a page holds."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fastcls import machine
from fastcls.data import image_bytes
from fastcls.data.image_files import open_file
from fastcls.data.image_formats import UnreadableImage
from fastcls.parallel import ahead

BUDGET = 7_500_000  # characters of all thumbnails of a page, so that it stays below 10 MB
SIZES = (128, 96, 72)  # pixels of the longer side: the largest with which all fit
_QUALITY = 72
_SAMPLED = 48  # images by which the size is chosen


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of some images.

    Attributes:
        texts: WebP in base64 of each image; "" of one that has none.
        missing: Files that could not be read.
        skipped: Images that had no place in the budget.
    """

    texts: tuple[str, ...]
    missing: int
    skipped: int


def make_thumbnails(paths: Sequence[Path], budget: int = BUDGET) -> Thumbnails:
    """Thumbnails of images, in the order of their importance: the last ones are left out first.

    Args:
        paths: Files, or addresses of records.
        budget: Characters that all of them may take.
    """
    size = _choose_size(paths, budget)
    texts, spent, missing = [""] * len(paths), 0, 0
    made = ahead(lambda path: _encode(path, size), paths, threads=machine.cores(), depth=64)
    for place, text in enumerate(made):
        if spent + len(text) > budget:
            return Thumbnails(tuple(texts), missing, len(paths) - place)
        texts[place] = text
        spent += len(text)
        missing += not text
    return Thumbnails(tuple(texts), missing, 0)


def _choose_size(paths: Sequence[Path], budget: int) -> int:
    sampled = paths[:: max(1, len(paths) // _SAMPLED)]
    for size in SIZES:
        texts = [*filter(None, (_encode(path, size) for path in sampled))]
        if not texts or sum(map(len, texts)) / len(texts) * len(paths) <= budget:
            return size
    return SIZES[-1]


def _encode(path: Path, size: int) -> str:
    """An image of which the longer side has `size` pixels, or "" if it cannot be read."""
    try:
        pixels = open_file(image_bytes.read_bytes(path), (size, size)).read()
        if pixels is None:
            return ""
    except (OSError, UnreadableImage, cv2.error):
        return ""
    return as_text(_shrink(pixels, size))


def as_text(pixels: np.ndarray) -> str:
    """WebP in base64 of an image (h, w, 3) uint8 RGB; "" if OpenCV cannot write it."""
    colors = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".webp", colors, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    return base64.b64encode(encoded.tobytes()).decode("ascii") if done else ""


def _shrink(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    if scale >= 1:
        return pixels
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)

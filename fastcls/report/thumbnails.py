"""Small pictures of images, as text that a page holds.

They are JPEG where all fit. WebP is a fifth smaller and takes nine times as long.
"""

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
# Kind of file, and pixels of the longer side: the first with which all fit.
KINDS = ((".jpg", 128), (".webp", 128), (".webp", 96), (".webp", 72))
_OPTIONS = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 76, cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 72],
}
_SAMPLED = 48  # images by which the kind is chosen: what is left has room for their error
_FULL = 0.9


@dataclass(frozen=True)
class Thumbnails:
    """Pictures of some images.

    Attributes:
        texts: A JPEG or WebP file in base64 of each image; "" of one that has none.
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
    kind, size = _choose_kind(paths, budget)
    texts, spent, missing = [""] * len(paths), 0, 0
    made = ahead(lambda path: _encode(path, kind, size), paths, threads=machine.cores(), depth=64)
    for place, text in enumerate(made):
        if spent + len(text) > budget:
            return Thumbnails(tuple(texts), missing, len(paths) - place)
        texts[place] = text
        spent += len(text)
        missing += not text
    return Thumbnails(tuple(texts), missing, 0)


def _choose_kind(paths: Sequence[Path], budget: int) -> tuple[str, int]:
    sampled = paths[:: max(1, len(paths) // _SAMPLED)]
    for kind, size in KINDS:
        texts = [*filter(None, (_encode(path, kind, size) for path in sampled))]
        if not texts or sum(map(len, texts)) / len(texts) * len(paths) <= _FULL * budget:
            return kind, size
    return KINDS[-1]


def _encode(path: Path, kind: str, size: int) -> str:
    """An image of which the longer side has `size` pixels, or "" if it cannot be read."""
    try:
        pixels = open_file(image_bytes.read_bytes(path), (size, size)).read()
        if pixels is None:
            return ""
    except (OSError, UnreadableImage, cv2.error):
        return ""
    return as_text(_shrink(pixels, size), kind)


def as_text(pixels: np.ndarray, kind: str = ".webp") -> str:
    """A file in base64 of an image (h, w, 3) uint8 RGB; "" if OpenCV cannot write it."""
    colors = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(kind, colors, _OPTIONS[kind])
    return base64.b64encode(encoded.tobytes()).decode("ascii") if done else ""


def _shrink(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    if scale >= 1:
        return pixels
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)

"""Crops of the two photographs that come with scikit-learn: the same images on every machine.

What is chosen for a trunk once and for all is measured on them, and so does not depend on the user's images.
"""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import cv2
import numpy as np

COUNT = 32
_PHOTOS = ("china.jpg", "flower.jpg")  # 427x640; CC BY 2.0 by danielbuechele and vultilion
_SMALLEST = 0.1  # side of a crop, as a share of the photo's height; on smooth crops rounding shows most


def crops(size: tuple[int, int], count: int = COUNT) -> np.ndarray:
    """Squares of many sizes and places, every second one mirrored.

    Args:
        size: (height, width) in pixels to which they are stretched.
        count: How many; fewer are the first of more.

    Returns:
        (count, height, width, 3) uint8 RGB.
    """
    photos = [_read(_folder() / name) for name in _PHOTOS]
    chance = random.Random(0)  # its numbers are the same in every version, unlike those of NumPy
    return np.stack([_crop(photos[place % 2], size, chance, place) for place in range(count)])


def _crop(photo: np.ndarray, size: tuple[int, int], chance: random.Random, place: int) -> np.ndarray:
    height, width = photo.shape[:2]
    side = round(height * _SMALLEST ** chance.random())
    top, left = (int(chance.random() * (length - side + 1)) for length in (height, width))
    square = photo[top : top + side, left : left + side]
    is_smaller = side > max(size)
    resized = cv2.resize(square, size[::-1], interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR)
    return resized[:, ::-1] if place // 2 % 2 else resized


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f"scikit-learn came without its photograph {path}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _folder() -> Path:
    """Where the photographs are, without an import of scikit-learn, which takes a second."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("scikit-learn is not installed", name="sklearn")
    return Path(package.origin).parent / "datasets" / "images"

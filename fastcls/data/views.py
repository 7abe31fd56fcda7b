"""Augmented views of an image: made from its decoded pixels, the same whenever and wherever they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import cv2
import numpy as np

from fastcls import files
from fastcls.specs.views import Recipe, ViewSpec

# Part of the key of an augmented row: whatever changes the pixels below must change this name.
PIXELS = f"warp-bilinear-reflect-color/1 opencv/{cv2.__version__.split('.')[0]}"

# ITU-R BT.601, as Pillow and OpenCV make gray.
_LUMA = np.array([0.299, 0.587, 0.114])
# The color axes of YIQ: hue is an angle in their plane.
_FROM_RGB = np.array([_LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_TO_RGB = np.linalg.inv(_FROM_RGB)


def row_key(digest: str, views: ViewSpec, number: int) -> str:
    """What the bottleneck of a view is found by: 32 hexadecimal characters.

    Args:
        digest: The image's identity, which is the key of view 0.
        views: The set of views.
        number: Which of them.
    """
    if not number:
        return digest
    return files.digest(f"{PIXELS}\n{views.augment}\n{views.view_seed}\n{number}\n{digest}".encode())


def make_view(image: np.ndarray, digest: str, views: ViewSpec, number: int) -> np.ndarray:
    """A view of a decoded image (H, W, 3) uint8, in the same form; view 0 is the image."""
    return augment(image, views.operations, (views.view_seed, digest, number)) if number else image


def augment(image: np.ndarray, recipe: Recipe, key: Sequence[str | int]) -> np.ndarray:
    """Change an image as chance, which the key decides, and the recipe want it.

    The geometric operations are one matrix and one bilinear interpolation; beyond its border the image is
    mirrored. Those of color follow, in one pass. What each operation draws does not depend on the others:
    adding one to a recipe leaves the rest as it was. Safe to call from several threads.

    Args:
        image: (H, W, 3) uint8 RGB, as `decoder.decode` gives it; it is not changed.
        recipe: What may happen.
        key: What the result depends on besides, such as (seed, digest, epoch).

    Returns:
        (H, W, 3) uint8 RGB; the image itself for a recipe that does nothing.
    """
    drawn = _Drawn.of(recipe, Random(int(files.json_digest(list(key)), 16)))
    height, width = image.shape[:2]
    matrix = _matrix(drawn, width, height)
    if not np.array_equal(matrix, np.eye(3)):
        image = cv2.warpPerspective(
            image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
    return _recolor(image, drawn)


@dataclass(frozen=True)
class _Drawn:
    """What one key draws from a recipe; the names are those of `Recipe`."""

    flip: bool
    vflip: bool
    crop: tuple[float, float, float]  # share of the area, and place: 0 left or top, 1 right or bottom
    perspective: tuple[float, ...]  # inward: x and y of each corner
    rotate: float
    translate: tuple[float, float]
    shear: float
    scale: float
    gamma: float
    brightness: float
    contrast: float
    color: float
    hue: float

    @classmethod
    def of(cls, recipe: Recipe, random: Random) -> _Drawn:
        # Always the same numbers in the same order. Only `random()` is promised to stay as it is between
        # versions of Python.
        def draw(low_high: tuple[float, float]) -> float:
            low, high = low_high
            return low + (high - low) * random.random()

        return cls(
            flip=random.random() < recipe.flip,
            vflip=random.random() < recipe.vflip,
            crop=(draw(recipe.crop), random.random(), random.random()),
            perspective=tuple(draw(recipe.perspective) for _ in range(8)),
            rotate=draw(recipe.rotate),
            translate=(draw(recipe.translate), draw(recipe.translate)),
            shear=draw(recipe.shear),
            scale=draw(recipe.scale),
            gamma=draw(recipe.gamma),
            brightness=draw(recipe.brightness),
            contrast=draw(recipe.contrast),
            color=draw(recipe.color),
            hue=draw(recipe.hue),
        )


def _matrix(drawn: _Drawn, width: int, height: int) -> np.ndarray:
    """Where a pixel (x, y, 1) goes: (3, 3) float64. A pixel's center is at half a pixel."""
    area, left, top = drawn.crop
    side = math.sqrt(area)
    crop = _diagonal(1 / side, 1 / side) @ _shift(-left * (1 - side) * width, -top * (1 - side) * height)
    angle = math.radians(drawn.rotate)
    turned = np.array(
        [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    leaning = np.array([[1, -math.tan(math.radians(drawn.shear)), 0], [0, 1, 0], [0, 0, 1]])
    flipped = _diagonal(-1 if drawn.flip else 1, -1 if drawn.vflip else 1)
    about_center = turned @ leaning @ _diagonal(drawn.scale, drawn.scale) @ flipped
    steps = (
        _shift(-0.5, -0.5),
        _shift(drawn.translate[0] * width, drawn.translate[1] * height),
        _perspective(drawn.perspective, width, height),
        _shift(width / 2, height / 2) @ about_center @ _shift(-width / 2, -height / 2),
        crop,
        _shift(0.5, 0.5),
    )
    return np.linalg.multi_dot(steps)


def _shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def _diagonal(x: float, y: float) -> np.ndarray:
    return np.diag([x, y, 1.0])


def _perspective(inward: Sequence[float], width: int, height: int) -> np.ndarray:
    if not any(inward):
        return np.eye(3)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    moved = corners + np.array(inward, np.float32).reshape(4, 2) * (1 - 2 * corners)
    sides = np.array([width, height], np.float32)
    return cv2.getPerspectiveTransform(corners * sides, moved * sides)


def _recolor(image: np.ndarray, drawn: _Drawn) -> np.ndarray:
    """Gamma, brightness, contrast, color and hue, in this order; rounded and clipped once, at the end."""
    linear = _saturate(drawn.color, drawn.hue) * (drawn.contrast * drawn.brightness)
    if drawn.gamma == 1 and np.array_equal(linear, np.eye(3)) and drawn.contrast == 1:
        return image
    table = (255 * (np.arange(256) / 255) ** drawn.gamma).astype(np.float32)
    pixels = cv2.LUT(image, table)
    mean = float(_LUMA @ cv2.mean(pixels)[:3]) * drawn.brightness
    offset = np.full((3, 1), (1 - drawn.contrast) * mean)
    pixels = cv2.transform(pixels, np.hstack([linear, offset]))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _saturate(color: float, hue: float) -> np.ndarray:
    """The matrix of RGB that scales colors about gray and turns the color wheel: (3, 3)."""
    gray = np.tile(_LUMA, (3, 1))
    scaled = color * np.eye(3) + (1 - color) * gray
    if not hue:
        return scaled
    angle = math.radians(hue)
    turned = np.array(
        [[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]
    )
    return _TO_RGB @ turned @ _FROM_RGB @ scaled

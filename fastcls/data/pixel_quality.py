"""What can be told of an image's quality from its pixels alone; measured when it is decoded."""

from __future__ import annotations

import math

import cv2
import numpy as np

# What is measured of an image, in this order; docs/audit.md says what it is for.
COLUMNS = ("height", "width", "mean", "deviation", "darkest", "brightest", "detail")
_BLOCKS = 16  # parts of each side
_SHARES = (0.05, 0.99)  # of the blocks; CleanVision has them of the pixels


def measure(pixels: np.ndarray, original: tuple[int, int]) -> np.ndarray:
    """Measure an image.

    `height` and `width` are those of the upright picture in its file. All else is of the gray values 0-255 of
    the pixels that the network takes: `mean`, standard `deviation`; of the means of 16 x 16 blocks, the one
    that 5 % of them do not exceed (`darkest`), and that 99 % do not (`brightest`); and `detail`, the
    root of the mean squares of the second differences along rows and along columns. As the variance of the
    Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000), it is near 0 where
    an image is blurred; it takes half the time.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        original: (height, width) in the file.

    Returns:
        (7,) float32, in the order of `COLUMNS`.
    """
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(gray)
    blocks = np.sort(_blocks(gray), axis=None)
    darkest, brightest = (blocks[math.ceil(share * blocks.size) - 1] for share in _SHARES)
    measured = (*original, mean.item(), deviation.item(), darkest, brightest, _detail(gray))
    return np.array(measured, np.float32)


def _blocks(gray: np.ndarray) -> np.ndarray:
    """The means of 16 x 16 blocks in the middle, (16, 16); of less than 16 rows or columns, the pixels."""
    height, width = (length - length % _BLOCKS for length in gray.shape)
    if not (height and width):
        return gray
    top, left = (gray.shape[0] - height) // 2, (gray.shape[1] - width) // 2
    # Of whole multiples, the area is averaged ten times faster than of others.
    middle = gray[top : top + height, left : left + width]
    return cv2.resize(middle, (_BLOCKS, _BLOCKS), interpolation=cv2.INTER_AREA)


def _detail(gray: np.ndarray) -> float:
    """From differences of pixels one and two apart, whose squares OpenCV adds quickest.

    With a and b the differences of a pixel to its neighbors on both sides, the square of the second
    difference, (a - b)^2, is 2 a^2 + 2 b^2 - (a + b)^2.
    """
    if min(gray.shape) < 3:
        return 0.0
    below = 4 * _difference(gray[1:], gray[:-1]) - _difference(gray[2:], gray[:-2])
    right = 4 * _difference(gray[:, 1:], gray[:, :-1]) - _difference(gray[:, 2:], gray[:, :-2])
    return math.sqrt(max(0.0, below + right))


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """The mean of squared differences."""
    return cv2.norm(one, other, cv2.NORM_L2SQR) / one.size

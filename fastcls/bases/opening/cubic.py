"""Cubic interpolation as PyTorch does it."""

from __future__ import annotations

import numpy as np

# https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/UpSample.h; TensorFlow's is -0.5.
_A = -0.75


def resize_cubic(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize by cubic convolution: `torch.nn.functional.interpolate` with "bicubic", without antialiasing.

    Keys, Cubic convolution interpolation for digital image processing, 1981.

    Args:
        grid: (H, W, C) float32.
        size: (height, width) of the result.

    Returns:
        (height, width, C) float32.
    """
    rows, columns = (_weights(known, wanted) for known, wanted in zip(grid.shape[:2], size, strict=True))
    return np.einsum("ih,jw,hwc->ijc", rows, columns, grid, optimize=True).astype(np.float32)


def _weights(known: int, wanted: int) -> np.ndarray:
    """What each of the wanted places takes of the known ones, (wanted, known)."""
    places = (np.arange(wanted) + 0.5) * known / wanted - 0.5
    first = np.floor(places).astype(int)
    matrix = np.zeros((wanted, known))
    for offset in range(-1, 3):
        column = np.clip(first + offset, 0, known - 1)  # edges are repeated
        np.add.at(matrix, (np.arange(wanted), column), _kernel(np.abs(places - first - offset)))
    return matrix


def _kernel(x: np.ndarray) -> np.ndarray:
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
    return np.where(x <= 1, near, np.where(x < 2, far, 0))

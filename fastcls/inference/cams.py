"""Class activation maps: what the gradient of a logit says of the positions of a map.

Grad-CAM: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", 2017. Grad-CAM++: Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual
Explanations for Deep Convolutional Networks", 2018.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np


def grad_cam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Channels weighed by their mean gradient; what speaks against the class counts nothing.

    Args:
        maps: (B, h, w, C) float32.
        gradients: Of the logit of a class with respect to them.

    Returns:
        (B, h, w) float32, 0 or more.
    """
    return _weighed(maps, gradients.mean(axis=(1, 2)))


def grad_cam_plus_plus(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """`grad_cam` with weights in which each position with a positive gradient counts as if it were alone.

    The class score is the exponential of the logit, whose derivatives are powers of the gradient: equation
    (19) of the paper. Its factor exp(logit) is left out: it is the same for all positions.
    """
    squares, cubes = gradients**2, gradients**3
    below = 2 * squares + maps.sum(axis=(1, 2), keepdims=True) * cubes
    shares = np.divide(squares, below, out=np.zeros_like(below), where=below != 0)
    return _weighed(maps, (shares * np.maximum(gradients, 0)).sum(axis=(1, 2)))


CAMS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "grad-cam": grad_cam,
    "grad-cam++": grad_cam_plus_plus,
}


def spread_out(cam: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) at a size, bilinear, with 1 as its highest value; zeros stay zeros: (H, W) float32."""
    highest = cam.max()
    scaled = cam / highest if highest > 0 else cam
    large = cv2.resize(scaled.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    highest = large.max()
    result: np.ndarray = large / highest if highest > 0 else large
    return result


def _weighed(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.maximum(np.einsum("bhwc,bc->bhw", maps, weights), 0)
    return result

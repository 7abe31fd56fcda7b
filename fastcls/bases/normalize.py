"""Normalization as Keras layers: pixels 0-255 in, what the base was trained on out.

The formulas are those of `keras.applications.imagenet_utils.preprocess_input`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcls.specs import NORMALIZATIONS, parse_mean_std

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of pixels scaled to 0..1
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR, of pixels 0..255


def normalize(image: Any, kind: str) -> Any:
    """Add the normalization of one kind to a graph, with built-in layers only.

    Args:
        image: Symbolic tensor (B, H, W, 3) uint8, RGB.
        kind: "tf", "torch", "caffe" or "none", or a mean and a standard deviation as `parse_mean_std`
            reads them.

    Returns:
        Symbolic tensor (B, H, W, 3) float32.
    """
    from keras import layers

    if kind == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="normalize_scale")(image)
    if kind == "torch":
        scaled = layers.Rescaling(1 / 255, name="normalize_scale")(image)
        variance = [std**2 for std in IMAGENET_STD]
        return layers.Normalization(mean=IMAGENET_MEAN, variance=variance, name="normalize_mean")(scaled)
    if kind not in NORMALIZATIONS:
        return _standardize(image, *parse_mean_std(kind))
    pixels = layers.Rescaling(1.0, name="normalize_scale")(image)  # casts uint8 to float32
    return _to_caffe(pixels) if kind == "caffe" else pixels


def _standardize(image: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    from keras import layers

    if len(mean) == 1:
        return layers.Rescaling(1 / std[0], offset=-mean[0] / std[0], name="normalize_scale")(image)
    pixels = layers.Rescaling(1.0, name="normalize_scale")(image)
    variance = [number**2 for number in std]
    return layers.Normalization(mean=mean, variance=variance, name="normalize_mean")(pixels)


def _to_caffe(pixels: Any) -> Any:
    from keras import layers

    flip = layers.Conv2D(3, 1, trainable=False, name="normalize_bgr")
    bgr = flip(pixels)
    flip.set_weights([np.eye(3, dtype="float32")[::-1].reshape(1, 1, 3, 3), -np.array(CAFFE_MEAN, "float32")])
    return bgr

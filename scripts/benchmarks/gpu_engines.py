"""Engines of the GPU benchmark, for `ExtractConfig.engine` and workers: "benchmarks.gpu_engines:NAME"."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.engines import Engine

# Keras on TensorFlow where it is installed, as in fastcls, else on JAX.
BACKEND = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
if BACKEND == "jax":
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several workers share a GPU
NETWORK = "fastcls.engines.tensorflow:Float16Engine" if BACKEND == "tensorflow" else f"{__name__}:JaxEngine"
NOTHING = f"{__name__}:Nothing"


class JaxEngine(Engine):
    """A Keras model in the dtype policies that it was saved with, compiled by JAX."""

    uses_gpu = True

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        self._forward = compiled(trunk)

    def run(self, images: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return np.asarray(self._forward(images), np.float32)


class Nothing(Engine):
    """Computes nothing: what is left is reading, decoding and writing."""

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        pass

    def run(self, images: np.ndarray) -> np.ndarray:
        """Rows of zeros."""
        return np.zeros((len(images), 1), np.float32)


@functools.cache
def compiled(trunk: Path) -> Callable[[Any], Any]:
    """The model as a function of images (B, H, W, 3) uint8 on the GPU; kept, since compiling takes long."""
    import jax
    import keras

    model = keras.saving.load_model(trunk, compile=False)
    trainable = [each.value for each in model.trainable_variables]
    fixed = [each.value for each in model.non_trainable_variables]
    forward = jax.jit(lambda *given: model.stateless_call(*given, training=False)[0])
    return lambda images: forward(trainable, fixed, images)

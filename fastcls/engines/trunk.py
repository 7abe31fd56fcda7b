"""A saved trunk, and its TensorFlow graph: what engines convert, freeze, or are compared with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.backend import import_keras
from fastcls.cache import checked_files


class Trunk:
    """A saved trunk, in memory once somebody needs it there.

    Args:
        path: The saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        model: The same model, where it is in memory already.
        find_stand_in: Finds what stands for Keras in `run`, as it was found to come as near as makes no
            difference; None for nothing.

    Attributes:
        float32_layers: What is to stay in float32 in lower precisions, where that was decided before; see
            `Engine.float32_layers`.
    """

    def __init__(
        self,
        path: Path,
        model: Any = None,
        find_stand_in: Callable[[], Callable[[np.ndarray], np.ndarray] | None] = lambda: None,
    ) -> None:
        self.path = path
        self.float32_layers: tuple[str, ...] | None = None
        self._model, self._find_stand_in = model, find_stand_in

    @cached_property
    def graph(self) -> Any:
        """Its TensorFlow graph: a concrete function, (B, H, W, 3) uint8 -> (B, ...) float32.

        Raises:
            CacheError: The saved model is damaged, or cannot be read.
        """
        import_keras()
        return trace(self._model or checked_files.load_model(self.path))

    @cached_property
    def _stand_in(self) -> Callable[[np.ndarray], np.ndarray] | None:
        return self._find_stand_in()

    def run(self, images: np.ndarray) -> np.ndarray:
        """What Keras computes in float32: (B, H, W, 3) uint8 -> (B, ...) float32."""
        if self._stand_in:
            return self._stand_in(images)
        import_keras()
        import tensorflow as tf

        return np.asarray(self.graph(tf.constant(images)))


def trace(model: Any) -> Any:
    """The TensorFlow graph of a Keras model: a concrete function, such as (B, H, W, 3) uint8 -> (B, ...)."""
    import tensorflow as tf

    signature = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
    return tf.function(lambda image: model(image, training=False)).get_concrete_function(signature)


def freeze(graph: Any) -> Any:
    """The same graph with constants in place of variables; it returns a list of one tensor.

    Constants let TensorFlow fold batch normalization into convolutions.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(graph)

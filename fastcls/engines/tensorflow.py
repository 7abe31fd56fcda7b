"""The reference engine: the trunk as a frozen TensorFlow graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastcls.backend import import_keras


class TensorFlowEngine:
    """Runs a trunk on batches of images.

    Args:
        trunk: A saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        threads: Threads for one operation, 0 for TensorFlow's choice; without effect once it runs.
    """

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        traced = trace(trunk, threads)
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        # Constants instead of variables let TensorFlow fold batch normalization into convolutions.
        self._run = convert_variables_to_constants_v2(traced)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward a batch.

        Args:
            images: (B, H, W, 3) uint8 RGB.

        Returns:
            (B, ...) float32.
        """
        import tensorflow as tf

        return np.asarray(self._run(tf.constant(images))[0])


def trace(trunk: Path, threads: int = 0) -> Any:
    """The TensorFlow graph of a saved trunk.

    Returns:
        Concrete function, (B, H, W, 3) uint8 -> (B, ...) float32.
    """
    keras = import_keras(threads)
    import tensorflow as tf

    model = keras.saving.load_model(trunk, compile=False)
    signature = tf.TensorSpec(model.inputs[0].shape, tf.uint8)
    return tf.function(lambda image: model(image, training=False)).get_concrete_function(signature)

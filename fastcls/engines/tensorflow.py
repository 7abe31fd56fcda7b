"""TensorFlow runs the trunk as a frozen graph: in float32 the reference, and in mixed precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.backend import import_keras
from fastcls.cache import checked_files
from fastcls.errors import OptionError
from fastcls.machine import cpu_flags

# x86: AVX-512 BF16 and AMX; ARM: the BF16 extension.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


class Trunk:
    """A saved trunk, in memory once somebody needs it there.

    Args:
        path: The saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        model: The same model, where it is in memory already.
    """

    def __init__(self, path: Path, model: Any = None) -> None:
        self.path = path
        self._model = model

    @cached_property
    def graph(self) -> Any:
        """Its TensorFlow graph: a concrete function, (B, H, W, 3) uint8 -> (B, ...) float32.

        Raises:
            CacheError: The saved model is damaged, or cannot be read.
        """
        import_keras()
        return trace(self._model or checked_files.load_model(self.path))

    def run(self, images: np.ndarray) -> np.ndarray:
        """What Keras computes in float32: (B, H, W, 3) uint8 -> (B, ...) float32."""
        import_keras()
        import tensorflow as tf

        return np.asarray(self.graph(tf.constant(images)))


def trace(model: Any) -> Any:
    """The TensorFlow graph of a Keras model: a concrete function, (B, H, W, 3) uint8 -> (B, ...) float32."""
    import tensorflow as tf

    signature = tf.TensorSpec(model.inputs[0].shape, tf.uint8)
    return tf.function(lambda image: model(image, training=False)).get_concrete_function(signature)


def freeze(graph: Any) -> Any:
    """The same graph with constants in place of variables; it returns a list of one tensor.

    Constants let TensorFlow fold batch normalization into convolutions.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    return convert_variables_to_constants_v2(graph)


class TensorFlowEngine:
    """Runs a trunk on batches of images, in float32.

    Args:
        trunk: A saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        threads: Threads for one operation, 0 for TensorFlow's choice; without effect once it runs.
    """

    _rewrite = ""

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        import_keras(threads)
        self._graph = freeze(Trunk(trunk).graph)

    @classmethod
    def require(cls) -> None:
        """TensorFlow computes in float32 everywhere."""

    @classmethod
    def prepare(cls, trunk: Trunk, read_images: Callable[[], np.ndarray]) -> None:
        """It needs nothing but the trunk."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward a batch.

        Args:
            images: (B, H, W, 3) uint8 RGB.

        Returns:
            (B, ...) float32.
        """
        import tensorflow as tf

        # On in every run: TensorFlow keeps a rewritten graph for each set of options.
        with _graph_option(self._rewrite):
            return np.asarray(self._graph(tf.constant(images))[0])


class Bfloat16Engine(TensorFlowEngine):
    """Computes in bfloat16 by oneDNN, on CPUs that have it."""

    _rewrite = "auto_mixed_precision_onednn_bfloat16"

    @classmethod
    def require(cls) -> None:
        """Raise OptionError on a CPU without bfloat16."""
        if not _BFLOAT16_FLAGS & cpu_flags():
            raise OptionError("this CPU does not compute in bfloat16 (no AVX-512 BF16, AMX or ARM BF16)")


class Float16Engine(TensorFlowEngine):
    """Computes in mixed float16 precision on GPUs."""

    _rewrite = "auto_mixed_precision"

    @classmethod
    def require(cls) -> None:
        """Raise OptionError without a GPU that computes fast in float16 (compute capability 7.0)."""
        if not any(capability >= (7, 0) for capability in gpus()):
            raise OptionError("TensorFlow sees no GPU of compute capability 7.0 or more")


def gpus() -> list[tuple[int, int]]:
    """Compute capability of each GPU that TensorFlow can use; TensorFlow is imported where there is one."""
    if not Path("/dev/nvidiactl").exists():
        return []
    import_keras()
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    details = (tf.config.experimental.get_device_details(gpu) for gpu in found)
    return [tuple(detail.get("compute_capability", (0, 0))) for detail in details]


@contextlib.contextmanager
def _graph_option(name: str) -> Iterator[None]:
    """Turn an option of TensorFlow's graph optimizer on for as long as this lasts; "" for none."""
    if not name:
        yield
        return
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get(name, False)
    tf.config.optimizer.set_experimental_options({name: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: before})

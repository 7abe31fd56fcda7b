"""TensorFlow runs the trunk as a frozen graph: in float32 the reference, and in mixed precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastcls.backend import import_keras
from fastcls.engines import Engine
from fastcls.engines.devices import TENSOR_CORES, gpus
from fastcls.engines.trunk import Trunk, freeze
from fastcls.errors import OptionError
from fastcls.machine import cpu_flags

# x86: AVX-512 BF16 and AMX; ARM: the BF16 extension.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


class TensorFlowEngine(Engine):
    """Runs a trunk on batches of images, in float32.

    Args:
        trunk: A saved Keras model, RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        threads: Threads for one operation, 0 for TensorFlow's choice; without effect once it runs.
    """

    uses_gpu = True
    is_reference = True
    _rewrite = ""

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        import_keras(threads)
        self._graph = freeze(Trunk(trunk).graph)

    @classmethod
    def memory(cls, trunk_bytes: int) -> int:
        """Peak bytes of a process: 1.1 GiB with MobileNetV2, 2.8 GiB with ResNet50."""
        return (900 << 20) + 20 * trunk_bytes  # a graph is copied often while it is frozen and optimized

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

    is_reference = False
    _rewrite = "auto_mixed_precision_onednn_bfloat16"

    @classmethod
    def require(cls) -> None:
        """Raise OptionError on a CPU without bfloat16."""
        if not _BFLOAT16_FLAGS & cpu_flags():
            raise OptionError("this CPU has no native bfloat16 support (no AVX-512 BF16, AMX or ARM BF16)")


class Float16Engine(TensorFlowEngine):
    """Computes in mixed float16 precision on GPUs."""

    is_reference = False
    _rewrite = "auto_mixed_precision"

    @classmethod
    def require(cls) -> None:
        """Raise OptionError without a GPU that computes fast in float16 (compute capability 7.0)."""
        if not any(capability >= TENSOR_CORES for capability in gpus()):
            raise OptionError("TensorFlow finds no GPU of compute capability 7.0 or higher")


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

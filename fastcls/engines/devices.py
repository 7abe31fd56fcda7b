"""The GPUs of this machine."""

from __future__ import annotations

from pathlib import Path

from fastcls.backend import import_keras

TENSOR_CORES = (7, 0)  # the compute capability from which float16 is fast


def has_driver() -> bool:
    """Whether there may be GPUs."""
    return Path("/dev/nvidiactl").exists()


def gpus() -> list[tuple[int, int]]:
    """Compute capability of each GPU that TensorFlow can use; TensorFlow is imported where there is one."""
    if not has_driver():
        return []
    import_keras()
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    details = (tf.config.experimental.get_device_details(gpu) for gpu in found)
    return [tuple(detail.get("compute_capability", (0, 0))) for detail in details]

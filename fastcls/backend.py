"""The one door to Keras: imports it without TensorFlow's start-up chatter and checks its backend."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

from fastcls.errors import OptionError


def import_keras(threads: int = 0) -> ModuleType:
    """Import Keras on TensorFlow.

    Args:
        threads: How many threads one operation may use, 0 for TensorFlow's choice; it has an effect
            only where TensorFlow has not been imported before.

    Raises:
        OptionError: Keras is configured for another backend.
    """
    if "keras" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _silenced_stderr():
            import keras
            import tensorflow as tf

            if threads:
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(1)
            tf.config.list_logical_devices()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise OptionError(
            f"fastcls runs Keras on TensorFlow. Received: the backend {keras.backend.backend()!r}. "
            "Unset KERAS_BACKEND, or correct ~/.keras/keras.json"
        )
    return keras


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    # TensorFlow's C++ code writes notices to descriptor 2 before its log level can be set.
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (a device, not a path of ours)
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)

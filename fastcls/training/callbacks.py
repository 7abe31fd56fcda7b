"""What watches a training: the history, the bar, TensorBoard. Imported only where Keras is loaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tqdm import tqdm


class Recorder(keras.callbacks.Callback):
    """Keeps one row per epoch: epoch (from 1), the metrics, and seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the time."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add a row."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        seconds = round(time.monotonic() - self._started, 3)
        self.rows.append({"epoch": epoch + 1, **metrics, "seconds": seconds})


class EpochBar(keras.callbacks.Callback):
    """Moves a bar by one per epoch and shows the last metrics."""

    def __init__(self, bar: tqdm) -> None:
        super().__init__()
        self._bar = bar

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Advance."""
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in (logs or {}).items()}, refresh=False)
        self._bar.update(1)


class TensorBoardLog(keras.callbacks.Callback):
    """Writes each epoch's metrics as TensorBoard scalars, in `train` and `validation` runs as Keras does.

    Keras's own callback needs the package tensorboard installed; TensorFlow alone can write the events.

    Args:
        folder: Where the two runs go.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the metrics of an epoch."""
        for name, value in (logs or {}).items():
            run = "validation" if name.startswith("val_") else "train"
            with self._writer(run).as_default():
                tag = f"epoch_{name.removeprefix('val_')}"
                tf.summary.write(tag, tf.constant(float(value)), step=epoch, metadata=_scalar_metadata())

    def on_train_end(self, logs: Any = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, run: str) -> Any:
        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(str(self._folder / run))
        return self._writers[run]


def _scalar_metadata() -> Any:
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    metadata.data_class = 1  # DATA_CLASS_SCALAR of TensorBoard's protocol
    return metadata

"""What a training writes down while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class TensorBoardLog:
    """Writes each epoch's metrics as TensorBoard scalars, in `train` and `validation` runs as Keras does.

    Keras's own callback needs the package tensorboard installed; TensorFlow alone can write the events.

    Args:
        folder: Where the two runs go; None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def write(self, row: Mapping[str, float]) -> None:
        """Write the metrics of an epoch."""
        import tensorflow as tf

        metrics = {name: row[name] for name in row if name not in ("epoch", "seconds")}
        for name, value in metrics.items() if self._folder else ():
            with self._writer("validation" if name.startswith("val_") else "train").as_default():
                tag = f"epoch_{name.removeprefix('val_')}"
                step = int(row["epoch"]) - 1  # Keras counts from 0
                tf.summary.write(tag, tf.constant(value), step=step, metadata=_scalar_metadata())

    def _writer(self, run: str) -> Any:
        import tensorflow as tf

        if run not in self._writers:
            self._writers[run] = tf.summary.create_file_writer(f"{self._folder}/{run}")
        return self._writers[run]


def _scalar_metadata() -> Any:
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "scalars"
    metadata.data_class = 1  # DATA_CLASS_SCALAR of TensorBoard's protocol
    return metadata

"""What a training writes down while it runs."""

from __future__ import annotations

import contextlib
import csv
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from fastcls import files
from fastcls.evaluation.pictures import draw_confusion
from fastcls.specs import LogSpec
from fastcls.training.loop.snapshots import Row

_STEP_COLUMNS = ("epoch", "step", "loss", "learning_rate")


class TrainingLog:
    """All that one training writes down, in the folder that becomes its run.

    Args:
        folder: Where; None writes nothing.
        spec: What, besides a row per epoch.
        steps: Steps per epoch.
        class_names: The classes, for pictures.
    """

    def __init__(self, folder: Path | None, spec: LogSpec, steps: int, class_names: Sequence[str]) -> None:
        self._folder, self._spec, self._class_names = folder, spec, class_names
        self._steps = steps
        self._tables: dict[str, _Table] = {}
        self._tensorboard = TensorBoardLog(folder / "tensorboard" if folder else None)
        is_drawn = folder is not None and spec.confusion_every > 0
        self._confusion = confusion_metric(len(class_names)) if is_drawn else None

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for table in self._tables.values():
            table.close()
        self._tensorboard.close()

    @property
    def val_metrics(self) -> list[Any]:
        """Keras metrics that are to see the validation rows."""
        return [self._confusion] if self._confusion else []

    @property
    def listen(self) -> Callable[[int, np.ndarray], None] | None:
        """What is to get the figures of each step, if anything."""
        return self._write_steps if self._folder and self._spec.log_steps else None

    def begin(self, model: Any, history: Sequence[Row]) -> None:
        """Start, or go on after epochs that were run before an interruption; what came later is dropped.

        Args:
            model: What is trained.
            history: A row per epoch so far.
        """
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self._drop_later(len(history))
        self._tensorboard.begin(model)
        for row in history:
            self._write_row(row)

    def write(self, row: Row) -> None:
        """Write down an epoch."""
        if self._folder is None:
            return
        self._write_row(row)
        if self._confusion is not None and row["epoch"] % self._spec.confusion_every == 0:
            picture = self._folder / "confusion" / f"epoch-{row['epoch']:04.0f}.png"
            draw_confusion(np.asarray(self._confusion.result()), self._class_names, picture)

    def _write_row(self, row: Row) -> None:
        self._table("history.csv", row).write([row])
        self._tensorboard.write(row)

    def _write_steps(self, epoch: int, seen: np.ndarray) -> None:
        first = (epoch - 1) * self._steps + 1
        rows = [
            {"epoch": epoch, "step": step, "loss": str(loss), "learning_rate": str(rate)}
            for step, (loss, rate) in enumerate(seen, start=first)
            if step % self._spec.log_steps == 0
        ]
        self._table("steps.csv", _STEP_COLUMNS).write(rows)

    def _table(self, name: str, columns: Iterable[str]) -> _Table:
        if name not in self._tables:
            self._tables[name] = _Table((self._folder or Path()) / name, list(columns))
        return self._tables[name]

    def _drop_later(self, epochs: int) -> None:
        folder = self._folder or Path()
        (folder / "history.csv").unlink(missing_ok=True)  # it is written again from the rows, as are these:
        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        _drop_rows(folder / "steps.csv", epochs)
        for picture in sorted((folder / "confusion").glob("epoch-*.png")):
            if int(picture.stem.removeprefix("epoch-")) > epochs:
                picture.unlink()


class TensorBoardLog:
    """Writes a model's graph, and each epoch's metrics as TensorBoard scalars, in `train` and `validation`.

    Keras's own callback needs the package tensorboard installed; TensorFlow alone can write the events.

    Args:
        folder: Where the two runs go; None writes nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writers: dict[str, Any] = {}

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers.values():
            writer.close()

    def begin(self, model: Any) -> None:
        """Write the graph of a model with one input."""
        import tensorflow as tf

        if self._folder is None:
            return
        signature = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype)
        forward = tf.function(lambda inputs: model(inputs, training=False))
        with self._writer("train").as_default():
            tf.summary.graph(forward.get_concrete_function(signature).graph)

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


def confusion_metric(classes: int) -> Any:
    """A Keras metric that counts rows by true and predicted class.

    Its result is (C, C) int32, [true, predicted].
    """
    import keras
    from keras import ops

    class Confusion(keras.metrics.Metric):
        def __init__(self) -> None:
            super().__init__(name="confusion", dtype="int32")
            shape = (classes, classes)
            self.counts = self.add_variable(shape, initializer="zeros", dtype="int32", name="counts")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            true = ops.cast(ops.reshape(y_true, (-1,)), "int32")
            places = ops.stack([true, ops.cast(ops.argmax(y_pred, axis=-1), "int32")], axis=-1)
            ones = ops.ones_like(true)
            self.counts.assign(self.counts + ops.scatter(places, ones, self.counts.shape))

        def result(self) -> Any:
            return self.counts

    return Confusion()


class _Table:
    """A CSV file that grows; what was written is there when the process is killed."""

    def __init__(self, path: Path, columns: list[str]) -> None:
        is_new = not path.exists()
        self._file: TextIO = path.open("a", **files.CSV_TEXT)
        self._writer = csv.DictWriter(self._file, columns)
        if is_new:
            self._writer.writeheader()

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._writer.writerows(rows)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _drop_rows(path: Path, epochs: int) -> None:
    """Drop the rows of later epochs; a last line that was cut off is one of them."""
    with contextlib.suppress(FileNotFoundError):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) <= epochs]
        files.write_text(path, "".join([*lines[:1], *kept]))

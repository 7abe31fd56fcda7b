"""Time fastcls against what it replaces, on the same images in the same run.

    python scripts/benchmark.py PHOTOS --base mobilenetv2 --weights FILE --epochs 5 --epochs 50

The alternative is Keras `fit` of the same frozen base and softmax head on a tf.data pipeline with the
same pixels and parallel decoding: what a careful user writes without a cache. Prints a Markdown table
and writes the figures as JSON.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from fastcls import pipeline
from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.cutter import bottleneck_model, cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import read_image
from fastcls.data.splitter import split
from fastcls.extraction.extractor import extract
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, HeadSpec, SplitSpec, TrainConfig

# The last one also trains.
ENGINES = (("openvino", "float32"), ("tensorflow", "float32"))


@dataclass(frozen=True)
class Row:
    """One line of the table: what ran, for how long, and how well it does on the validation images."""

    contender: str
    epochs: int
    seconds: float
    val_accuracy: float | None = None


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.option("--base", default="mobilenetv2", show_default=True)
@click.option("--weights", default="imagenet", show_default=True)
@click.option("--epochs", type=int, multiple=True, default=(5, 50), show_default=True)
@click.option("--workers", type=int, default=2, show_default=True)
@click.option("--json", "report", type=click.Path(path_type=Path), default=Path("benchmark.json"))
def main(photos: Path, base: str, weights: str, epochs: tuple[int, ...], workers: int, report: Path) -> None:
    """Compare on PHOTOS, a folder per class."""
    dataset = split(Dataset.from_folder(photos), SplitSpec())
    spec = CutSpec(BaseSpec(base, weights=weights))
    import_keras()
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_with_cache(dataset, spec, epochs, workers, Path(folder))]
    rows += [_keras_fit(dataset, spec, count) for count in epochs]
    header = _header(dataset, base, workers)
    click.echo(_markdown(header, rows))
    report.write_text(json.dumps({"header": header, "rows": [vars(row) for row in rows]}, indent=2))


def _with_cache(
    dataset: Dataset, spec: CutSpec, epochs: tuple[int, ...], workers: int, folder: Path
) -> list[Row]:
    rows = []
    for engine, precision in ENGINES:
        wanted = replace(spec, precision=precision)
        config = ExtractConfig(engine=engine, workers=workers)
        fill = functools.partial(extract, dataset, wanted, folder / engine, config)
        seconds, (cache, _) = _timed(fill)
        rows.append(Row(f"fastcls extract, {engine} {precision}", 0, seconds))
    again, _ = _timed(fill)
    rows.append(Row("fastcls extract again (nothing to do)", 0, again))
    for count in epochs:
        training = TrainConfig(epochs=count, patience=0)
        run = functools.partial(pipeline.train_run, cache, HeadSpec(), training, folder / f"run-{count}")
        trained_in, (_, trained) = _timed(run)
        rows.append(Row("fastcls train-head, stitch", count, trained_in, _accuracy(trained.history)))
        rows.append(Row("fastcls in all", count, seconds + trained_in, _accuracy(trained.history)))
    return rows


def _keras_fit(dataset: Dataset, spec: CutSpec, epochs: int) -> Row:
    import keras

    keras.utils.set_random_seed(0)
    made = cut(load_base(spec.base), spec.layer)
    trunk = bottleneck_model(made)
    trunk.trainable = False
    head = keras.layers.Dense(len(dataset.class_names), activation="softmax")
    model = keras.Model(trunk.inputs, head(trunk.outputs[0]))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    train, val = (_pictures(dataset.subset(name), made.base.size) for name in ("train", "val"))
    seconds, history = _timed(lambda: model.fit(train, validation_data=val, epochs=epochs, verbose=0))
    columns = [
        dict(zip(history.history, row, strict=True)) for row in zip(*history.history.values(), strict=True)
    ]
    return Row("Keras fit, frozen base, no cache", epochs, seconds, _accuracy(columns))


def _pictures(dataset: Dataset, size: tuple[int, int]) -> Any:
    import tensorflow as tf

    paths = [str(dataset.locate(sample)) for sample in dataset.samples]
    labels = [sample.label for sample in dataset.samples]

    def decode(path: Any, label: Any) -> Any:
        image = tf.numpy_function(lambda name: read_image(Path(name.decode()), size), [path], tf.uint8)
        return tf.ensure_shape(image, (*size, 3)), label

    files = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths), seed=0)
    return files.map(decode, tf.data.AUTOTUNE).batch(32).prefetch(tf.data.AUTOTUNE)


def _accuracy(history: Any) -> float:
    best = min(history, key=lambda row: row["val_loss"])
    return round(float(best["val_accuracy"]), 4)


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function()
    return round(time.perf_counter() - started, 2), result


def _header(dataset: Dataset, base: str, workers: int) -> dict[str, Any]:
    counts = {name: len(dataset.subset(name).samples) for name in dataset.splits}
    packages = ("tensorflow", "keras", "opencv-python-headless", "h5py", "numpy")
    return {
        "base": base,
        "images": counts,
        "workers": workers,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _markdown(header: dict[str, Any], rows: list[Row]) -> str:
    slow = {row.epochs: row.seconds for row in rows if row.contender.startswith("Keras")}
    lines = [", ".join(f"{name} {value}" for name, value in header.items()), ""]
    lines += ["| | epochs | seconds | val accuracy | times faster |", "|---|---|---|---|---|"]
    for row in rows:
        whole = row.contender == "fastcls in all"
        ratio = f"{np.divide(slow[row.epochs], row.seconds):.1f}" if whole else ""
        accuracy = "" if row.val_accuracy is None else f"{row.val_accuracy:.3f}"
        lines.append(f"| {row.contender} | {row.epochs or ''} | {row.seconds:.1f} | {accuracy} | {ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""LiteRT, formerly TensorFlow Lite: runs on phones and small devices."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastcls.exporting.runtimes import MEMBER, RUNTIMES
from fastcls.exporting.source import Source
from fastcls.specs.exporting import FLOAT16, FLOAT32, INT8

_LABELS = "labels.txt"  # where tools of TensorFlow look for names of classes


def write(source: Source, folder: Path) -> None:
    """Write classifier.tflite into a folder: what travels with it is a zip archive at its end."""
    import tensorflow as tf

    # With the model beside its function, as TensorFlow advises, a file without weights is written.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([source.network.frozen])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if source.precision != FLOAT32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if source.precision == FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if source.precision == INT8:
        images = source.images
        converter.representative_dataset = lambda: _each(images)
    path = folder / RUNTIMES["litert"].name
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MEMBER, source.text)
        archive.writestr(_LABELS, "\n".join(source.document["class_names"]))


def _each(images: np.ndarray) -> Iterator[list[np.ndarray]]:
    for image in images:
        yield [image[None]]

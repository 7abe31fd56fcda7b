"""Compares an export with its classifier. It runs in a process that imports nothing but its runtime."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import processes
from fastcls.backend import import_keras
from fastcls.engines.trunk import trace
from fastcls.errors import ExportError
from fastcls.exporting.checks import BOUNDS, Checked, Reference, judge
from fastcls.inference.bottlenecks import with_bottleneck
from fastcls.inference.classifier import Classifier
from fastcls.specs.heads import FUNCTION, HEADS

TIMEOUT_S = 300  # to start and to load; beside it, for each image
_TIMEOUT_S_PER_IMAGE = 5
_BATCH = 16


@dataclass(frozen=True)
class Ran:
    """What an export gave in a process of its own.

    Attributes:
        output: (N, ...) float32.
        described: What travels with it.
        ms_per_image: Median time of a batch of one image, with all cores.
    """

    output: np.ndarray
    described: dict[str, Any]
    ms_per_image: float


def verify(export: Path, reference: Reference, path: Path | None = None) -> Checked:
    """Compare an export with its classifier. The result tells whether it failed: see `Checked.require`.

    Args:
        export: Its folder or file.
        reference: What `reference_of` returned.
        path: The folder or file of the float32 conversion of `path_model` by the same writer, which is looked
            at first. None where that is the export itself: in float32, where `path_model` is the classifier.

    Raises:
        ExportError: It cannot be run, takes too long, or gives something else than probabilities.
    """
    along = run_apart(path, reference.images) if path else None
    found = run_apart(export, reference.images)
    if path is None and (reference.bottlenecks is not None or BOUNDS[_precision(found.described)]):
        raise ValueError("this export is not its own float32 path, which is needed to check it")
    for place, output in ((path, along.output if along else found.output), (export, found.output)):
        expected = reference.probabilities.shape
        if output.ndim != 2 or len(output) != expected[0] or output.shape[1] < expected[1]:
            raise ExportError(f"{place or export} gives {output.shape}, expected are {expected}")
    return judge(
        found.output, along.output if along else None, found.described, reference, found.ms_per_image
    )


def run_apart(export: Path, images: np.ndarray) -> Ran:
    """Run an export in a process that imports the runtime of its format alone.

    Args:
        export: Its folder or file.
        images: (N, H, W, 3) uint8 RGB.

    Raises:
        ExportError: It cannot be run, or takes too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        inputs, output, told = (Path(folder, name) for name in ("images.npy", "output.npy", "told.json"))
        np.save(inputs, images)
        _run([str(export.absolute()), str(inputs), str(output), str(told)], export, len(images))
        return Ran(np.load(output), **json.loads(told.read_text()))


def reference_of(
    classifier: Classifier,
    images: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    cached: np.ndarray | None = None,
    cached_types: tuple[str, ...] = (),
) -> Reference:
    """What the exports of a classifier are compared with.

    Args:
        classifier: With its Keras model.
        images: (N, H, W, 3) uint8 RGB, as it takes them.
        labels: Their label array; None where their classes are not known.
        cached: What its head makes of their bottlenecks in the cache, (N, C); None where they are not there.
        cached_types: In which those were computed and stored.
    """
    rows = _forward(path_model(classifier), images)
    probabilities, bottlenecks = np.split(rows, [len(classifier.class_names)], axis=1)
    beside = bottlenecks if bottlenecks.size else None
    known = (classifier.described, classifier.task, beside, cached, cached_types, labels)
    return Reference(images, probabilities, *known)


def path_model(classifier: Classifier) -> Any:
    """The Keras model whose float32 conversion proves the path of its exports.

    It is that of the classifier, with the bottlenecks beside the probabilities where a head counts votes:
    these jump, and hide what is wrong before them.
    """
    return with_bottleneck(classifier.model) if _votes(classifier) else classifier.model


def needs_path(classifier: Classifier, precision: str) -> bool:
    """Whether an export in a precision is not its own float32 path, which is then written to check it."""
    return BOUNDS[precision] is not None or _votes(classifier)


def _votes(classifier: Classifier) -> bool:
    head = classifier.provenance.get("head") or {}
    return HEADS.get(head.get("kind", ""), FUNCTION).votes


def _forward(model: Any, images: np.ndarray) -> np.ndarray:
    import_keras()
    import tensorflow as tf

    run = trace(model)
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([np.asarray(run(tf.constant(batch)), np.float32) for batch in batches])


def _precision(described: Mapping[str, Any]) -> str:
    return str(described["export"]["precision"])


def _run(arguments: list[str], export: Path, images: int) -> None:
    timeout = TIMEOUT_S + images * _TIMEOUT_S_PER_IMAGE
    try:
        ended = subprocess.run(
            processes.command("fastcls.exporting.child", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=processes.environment(),
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{export} did not run within {timeout} seconds") from error
    if ended.returncode:
        lines = ended.stderr.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
        how = f"killed by {signal.Signals(-ended.returncode).name}" if ended.returncode < 0 else last
        raise ExportError(f"{export} cannot be run: {how}")

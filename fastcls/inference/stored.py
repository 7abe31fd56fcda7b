"""What `Classifier.load` reads: a run folder, a classifier file, or an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls.data.decoder import Decoder
from fastcls.errors import OptionError
from fastcls.exporting.runtimes import is_export
from fastcls.inference.export_file import ExportFile
from fastcls.inference.model_file import ModelFile, read_familiarity, read_member
from fastcls.runs import CLASSIFIER, Run
from fastcls.specs import PixelRule
from fastcls.tasks import Task, task_named
from fastcls.training.familiarity import Familiarity

MEMBER = "fastcls.json"


@dataclass(frozen=True)
class Stored:
    """A stored classifier, of which no model is in memory yet.

    Attributes:
        path: Its file; the folder of a SavedModel.
        model: Where its model is.
        class_names: See `Classifier`, as for the others.
        pixels: How image files become its input.
        provenance: What made it.
        thresholds: Of the classes.
        task: What is asked of an image.
        familiarity: What its training images are like.
    """

    path: Path
    model: ModelFile | ExportFile
    class_names: tuple[str, ...]
    pixels: PixelRule
    provenance: dict[str, Any]
    thresholds: tuple[float, ...] | None
    task: Task
    familiarity: Familiarity | None


def open_stored(path: Path) -> Stored:
    """Look at what is stored, without Keras; see `Classifier.load`."""
    if not (path / CLASSIFIER).is_file() and is_export(path):
        return _open_export(path)
    file = path / CLASSIFIER if path.is_dir() else path
    if file.is_file() and (run := Run.of(path) if path.is_dir() else None):
        run.file(CLASSIFIER)
    described = read_member(file, MEMBER)
    known = _read(described, file)
    return Stored(
        file, ModelFile.open(file, known["pixels"].size), **known, familiarity=read_familiarity(file)
    )


def _open_export(path: Path) -> Stored:
    model = ExportFile.open(path)
    known = _read(dict(model.export.described), model.path)
    model.warn_if_stale()
    return Stored(model.path, model, **known, familiarity=None)


def _read(described: dict[str, Any], file: Path) -> dict[str, Any]:
    """What travels with a model, by the names of fields; the provenance is what is left."""
    class_names = tuple(described.pop("class_names"))
    thresholds = described.pop("thresholds", None)
    task = _read_task(described, thresholds, len(class_names), file)
    rule = _read_pixels(described, file)
    return {
        "class_names": class_names,
        "pixels": rule,
        "provenance": described,
        "thresholds": tuple(thresholds) if thresholds else None,
        "task": task,
    }


def _read_task(
    described: dict[str, Any], thresholds: Sequence[float] | None, classes: int, file: Path
) -> Task:
    """Take the task out of what travels with a model; refuse one that the thresholds do not fit."""
    try:
        task = task_named(described.pop("task", None))
        task.require_thresholds(thresholds, classes)
    except ValueError as error:
        raise OptionError(f"{file} cannot be used: {error}. Train it again") from error
    return task


def _read_pixels(described: dict[str, Any], file: Path) -> PixelRule:
    """Take the rule of pixels out of what travels with a model; refuse one that is not obeyed here."""
    try:
        return Decoder(PixelRule.read(described.pop("pixels"))).rule
    except (KeyError, ValueError) as error:
        reason = str(error) if isinstance(error, OptionError) else "it does not say how its pixels are made"
        raise OptionError(f"{file} cannot be used: {reason}") from error

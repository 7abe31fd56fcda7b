"""A trained classifier: image files in, class probabilities out."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import archives, files
from fastcls.backend import import_keras, reproducible_build
from fastcls.data.decoder import Decoder, UnreadableImage, affordable_pixels
from fastcls.engines.trunk import freeze, trace
from fastcls.errors import OptionError
from fastcls.machine import cores
from fastcls.parallel import ahead
from fastcls.runs import CLASSIFIER, Run
from fastcls.specs import PixelRule
from fastcls.tasks import ONE_LABEL, Task, task_named

MEMBER = "fastcls.json"
FILE_NAME = CLASSIFIER


@dataclass(frozen=True)
class ImageResult:
    """What a classifier says of one image file.

    Attributes:
        path: The file.
        probabilities: (C,) float32; None when the image is unreadable.
        reason: Why it is unreadable; "" when it is not.
    """

    path: Path
    probabilities: np.ndarray | None
    reason: str = ""


@dataclass(frozen=True)
class Classifier:
    """One Keras model with the names of its classes and where it comes from.

    Attributes:
        model: RGB uint8 image (B, H, W, 3) -> probabilities (B, C).
        class_names: The C classes.
        pixels: How image files become its input.
        provenance: What made it: base, cut, fingerprint, versions, figures.
        thresholds: The probability of each class from which on it is predicted, of any number per image;
            None where each image has exactly one, the most probable.
        task: What is asked of an image.
    """

    model: Any
    class_names: tuple[str, ...]
    pixels: PixelRule
    provenance: dict[str, Any]
    thresholds: tuple[float, ...] | None = None
    task: Task = ONE_LABEL

    def __post_init__(self) -> None:
        self.task.require_thresholds(self.thresholds, len(self.class_names))

    def rank(self, probabilities: np.ndarray) -> list[int]:
        """The labels of an image by falling probability; of several labels, those that are predicted.

        Args:
            probabilities: (C,).
        """
        return self.task.rank(probabilities, self.thresholds)

    def name_classes(self, probabilities: np.ndarray) -> tuple[str, ...]:
        """Sorted names of the classes that are predicted with (C,) probabilities, of any number per image."""
        return tuple(self.class_names[label] for label in sorted(self.rank(probabilities)))

    @property
    def described(self) -> dict[str, Any]:
        """What travels with the model, as fastcls.json and run.json have it."""
        own = {"class_names": self.class_names, "task": self.task.name, "thresholds": self.thresholds}
        return {**own, "pixels": asdict(self.pixels), **self.provenance}

    def save(self, path: Path) -> None:
        """Save as a `.keras` file that plain Keras loads, with one more member: fastcls.json."""
        described = json.dumps(self.described, indent=2, ensure_ascii=False)
        with files.atomic_path(path) as temporary:
            self.model.save(temporary)
            with archives.extended(temporary) as archive:
                archive.writestr(MEMBER, described)

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Load a run folder or a classifier file.

        Raises:
            OptionError: There is no such classifier, it was not made by fastcls, or this fastcls does not
                make such pixels as it was trained on.
        """
        file = path / FILE_NAME if path.is_dir() else path
        if file.is_file() and (run := Run.of(path) if path.is_dir() else None):
            run.file(FILE_NAME)
        described = _read_member(file)
        class_names = tuple(described.pop("class_names"))
        thresholds = described.pop("thresholds", None)
        task = _read_task(described, thresholds, len(class_names), file)
        pixels = _read_pixels(described, file)
        keras = import_keras()
        try:
            with reproducible_build():  # a file has no seeds of its dropouts, which may be trained further
                model = keras.saving.load_model(file, compile=False)
        except Exception as error:  # Keras fails on a damaged file anywhere
            raise OptionError(f"{file} is damaged: {type(error).__name__}: {error}") from error
        if model.inputs[0].shape[1:3] != pixels.size:
            raise OptionError(f"{file} is damaged: its model does not take images of {pixels.size}")
        return cls(model, class_names, pixels, described, tuple(thresholds) if thresholds else None, task)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image that the model takes, in pixels."""
        return self.pixels.size

    def predict(
        self, paths: Iterable[Path], *, batch_size: int = 16, max_pixels: int | None = None
    ) -> Iterator[ImageResult]:
        """Classify image files in order, a batch at a time; decoding runs ahead.

        Args:
            paths: Image files.
            batch_size: Images per forward pass.
            max_pixels: Images of more pixels, when they are decoded, are not read; None for as many as the
                memory allows each decoding thread.

        Yields:
            One result per path; an unreadable image is a result with a reason, not an exception.
        """
        decoder = Decoder(self.pixels, max_pixels or affordable_pixels(cores()))
        decoded = ahead(partial(_decode, decoder), paths, threads=cores(), depth=2 * batch_size)
        batch: list[tuple[Path, np.ndarray | str]] = []
        for item in decoded:
            batch.append(item)
            if len(batch) == batch_size:
                yield from self._forward(batch, batch_size)
                batch = []
        if batch:
            yield from self._forward(batch, batch_size)

    @cached_property
    def _graph(self) -> Any:
        return freeze(trace(self.model))

    def _run(self, images: np.ndarray) -> np.ndarray:
        import tensorflow as tf

        return np.asarray(self._graph(tf.constant(images))[0])

    def _forward(
        self, batch: Sequence[tuple[Path, np.ndarray | str]], batch_size: int
    ) -> Iterator[ImageResult]:
        images = np.zeros((batch_size, *self.size, 3), np.uint8)  # always full: one trace, steady results
        for place, (_, image) in enumerate(batch):
            if not isinstance(image, str):
                images[place] = image
        probabilities = self._run(images)
        for (path, image), row in zip(batch, probabilities, strict=False):
            yield ImageResult(path, None, image) if isinstance(image, str) else ImageResult(path, row)


def _decode(decoder: Decoder, path: Path) -> tuple[Path, np.ndarray | str]:
    try:
        return path, decoder.read(path)
    except UnreadableImage as error:
        return path, str(error)


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
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, OptionError) else "it does not say how its pixels are made"
        raise OptionError(f"{file} cannot be used: {reason}") from error


def _read_member(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise OptionError(
            f"There is no classifier {file}. Train one with: fastcls train-head CACHE --out RUN"
        )
    try:
        with zipfile.ZipFile(file) as archive:
            described = archives.read_json(archive, MEMBER)
        if not isinstance(described["class_names"], list):
            raise ValueError("its class names are no list")
    except Exception as error:  # zipfile fails on a damaged file anywhere
        raise OptionError(f"{file} is not a classifier made by fastcls, or damaged: {error}") from error
    return dict(described)

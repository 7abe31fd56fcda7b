"""A trained classifier: images in, class probabilities out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcls import archives, files
from fastcls.cache import checked_files
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder, affordable_pixels
from fastcls.errors import OptionError
from fastcls.files import PathLike
from fastcls.inference.bottlenecks import with_bottleneck
from fastcls.inference.export_file import ExportFile, ExportForwarder
from fastcls.inference.forwarder import AUTO, Forward, Forwarder
from fastcls.inference.inputs import Decoded, Images, decode, listed
from fastcls.inference.model_file import FAMILIARITY
from fastcls.inference.provenance import provenance_of
from fastcls.inference.results import ImageResult, Predictions
from fastcls.inference.stitcher import stitch
from fastcls.inference.stored import MEMBER, open_stored
from fastcls.machine import cores
from fastcls.parallel import ahead
from fastcls.runs import Run
from fastcls.specs import (
    ENGINES,
    AnswerSpec,
    FeaturesSpec,
    PixelRule,
    ResultSpec,
    check_answer,
    check_at_least,
    check_choice,
    check_type,
)
from fastcls.tasks import ONE_LABEL, Task
from fastcls.training.familiarity import Familiarity
from fastcls.used_images import UNKNOWN, UsedImages
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.evaluation.tester import Tested
    from fastcls.training.head_trainer import TrainedHead

_SHOWN = 5


@dataclass(frozen=True)
class Classifier:
    """One Keras model with the names of its classes and where it comes from.

    Attributes:
        model: RGB uint8 image (B, H, W, 3) -> probabilities (B, C).
        class_names: The C classes.
        pixels: How image files become its input.
        provenance: What made it: base, cut, fingerprint, versions, figures.
        thresholds: The probability that each class must reach to be predicted, with several labels per
            image; None with one label, where the most probable class is predicted.
        task: What is asked of an image.
        source: The file that it was loaded from; None for one that was made in this process.
        used: The images that had a part in it, where it was made in this process; see `known_images`.
        familiarity: What its training images are like, by which unfamiliar ones are told; None of a network
            that was finetuned, of a tail or of an export.
        engine: What runs it: see `load`.
    """

    model: Any
    class_names: tuple[str, ...]
    pixels: PixelRule
    provenance: dict[str, Any]
    thresholds: tuple[float, ...] | None = None
    task: Task = ONE_LABEL
    source: Path | None = field(default=None, compare=False)
    used: UsedImages = field(default=UNKNOWN, compare=False)
    familiarity: Familiarity | None = field(default=None, compare=False)
    engine: str = field(default=AUTO, compare=False)

    def __repr__(self) -> str:
        names = ", ".join(self.class_names[:_SHOWN]) + (", ..." if len(self.class_names) > _SHOWN else "")
        height, width = self.size
        source = f", loaded from {self.source}" if self.source else ""
        classes = count_of(len(self.class_names), "class")
        return f"<Classifier of {classes} ({names}), images of {height}x{width}{source}>"

    @classmethod
    def join(cls, cache: Cache | PathLike, trained: TrainedHead) -> Classifier:
        """Join a trained head to the trunk of the cache that it was trained on.

        Args:
            cache: The cache, or its path.
            trained: What `train_head` returned.

        Raises:
            CacheError: The saved trunk is damaged.
            OptionError: The head does not take what the cache holds.
        """
        from fastcls.training.head_trainer import TrainedHead

        check_type("trained", trained, TrainedHead)
        cache = Cache.of(cache)
        trunk = checked_files.load_model(cache.trunk_path)
        model = stitch(trunk, trained.model)
        provenance = provenance_of(cache.manifest, trained)
        known = cache.manifest.pixels, provenance, trained.thresholds, trained.task
        return cls(model, trained.class_names, *known, used=trained.used, familiarity=trained.familiarity)

    def __post_init__(self) -> None:
        self.task.require_thresholds(self.thresholds, len(self.class_names))

    if not TYPE_CHECKING:  # who would no longer see what there is

        def __getattr__(self, name: str) -> Any:
            """Load the model of a file when it is asked for: Keras takes seconds."""
            if name != "model" or not self.is_of_file:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            object.__setattr__(self, "model", self._loaded)
            # From now on it may be changed.
            for of_file in ("_file", "_loaded", "_forwarder"):
                self.__dict__.pop(of_file, None)
            return self.model

    def __getstate__(self) -> dict[str, Any]:
        """The fields: how the model is run is found anew, perhaps where its file is not."""
        model = self._loaded if self.is_of_file else self.model
        return {**{each.name: self.__dict__.get(each.name) for each in fields(self)}, "model": model}

    def rank(self, probabilities: np.ndarray, threshold: float | None = None) -> list[int]:
        """The labels of an image by falling probability; of several labels, those that are predicted.

        Args:
            probabilities: (C,).
            threshold: In place of the thresholds of all classes.
        """
        thresholds = self.thresholds if threshold is None else (threshold,) * len(self.class_names)
        return self.task.rank(probabilities, thresholds)

    @property
    def described(self) -> dict[str, Any]:
        """What travels with the model, as fastcls.json and run.json have it."""
        own = {"class_names": self.class_names, "task": self.task.name, "thresholds": self.thresholds}
        return {**own, "pixels": asdict(self.pixels), **self.provenance}

    def save(self, path: PathLike) -> None:
        """Save as a file that plain Keras loads, with one more member: fastcls.json.

        Args:
            path: A file whose name ends in `.keras`. One that is there is replaced.

        Raises:
            OptionError: The name ends otherwise.
            OSError: The file cannot be written.
        """
        path = files.as_path(path, "path")
        if path.suffix != ".keras":
            raise OptionError(f"A classifier is saved in a file that ends in .keras. Received: {path}")
        described = json.dumps(self.described, indent=2, ensure_ascii=False)
        with files.atomic_path(path) as temporary:
            self.model.save(temporary)
            with archives.extended(temporary) as archive:
                archive.writestr(MEMBER, described)
                if self.familiarity:
                    archive.writestr(FAMILIARITY, self.familiarity.to_bytes())

    @classmethod
    def load(cls, path: PathLike, *, engine: str = AUTO) -> Classifier:
        """Load a run folder, a classifier file or an export.

        Args:
            path: The folder that a run has made, a file that `save` has written, or what `fastcls export`
                has: one of its folders, or the model in it. An export has no Keras model, and runs without.
            engine: "openvino", "tensorflow" for Keras, or "auto" for the faster one.

        Raises:
            OptionError: There is no such classifier, it was not made by fastcls, or this fastcls does not
                make such pixels as it was trained on.
            MissingExtraError: The runtime of an export is not installed.
        """
        check_choice("engine", engine, (AUTO, *ENGINES))
        found = open_stored(files.as_path(path, "path"))
        known = found.class_names, found.pixels, found.provenance, found.thresholds, found.task
        made = cls(None, *known, source=found.path, familiarity=found.familiarity, engine=engine)
        object.__setattr__(made, "_file", found.model)
        if made.is_export and engine != AUTO:
            raise OptionError(f"An export is run by the runtime of its format. Received: engine={engine!r}")
        object.__delattr__(made, "model")
        return made

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image that the model takes, in pixels."""
        return self.pixels.size

    def predict(
        self,
        images: Images,
        *,
        batch_size: int = 16,
        max_pixels: int | None = None,
        threshold: float | None = None,
        min_confidence: float | None = None,
    ) -> Predictions:
        """Classify images.

        Args:
            images: One image or many: a file, a folder (with all that is below it), a pattern, a TFRecord
                file, a video, an http(s) address; the bytes of an image file; an array (H, W, 3) uint8 RGB,
                or (N, H, W, 3) of several; a Pillow image; or an iterable of any of these.
            batch_size: Images per forward pass.
            max_pixels: Images of more pixels, when they are decoded, are not read; None for as many as the
                memory allows each decoding thread.
            threshold: With several labels per image, a class is predicted when its probability reaches this,
                in place of the thresholds that validation chose.
            min_confidence: With one label per image, where the most probable class is less probable, the
                answer is "unsure".

        Returns:
            A list with a result per image, in order, for one image too; an unreadable image is a result
            with a reason, not an exception.

        Raises:
            DataError: A folder holds no image, or something is no image at all, such as an array of floats.
            OptionError: The batch size, or the number of pixels, is below 1, or `threshold` or
                `min_confidence` has no effect, or is not between 0 and 1.
        """
        asked = {"threshold": threshold, "min_confidence": min_confidence}
        return Predictions(self.stream(images, batch_size=batch_size, max_pixels=max_pixels, **asked))

    def stream(
        self,
        images: Images,
        *,
        batch_size: int = 16,
        max_pixels: int | None = None,
        threshold: float | None = None,
        min_confidence: float | None = None,
    ) -> Iterator[ImageResult]:
        """Classify images one after the other, in bounded memory; see `predict`.

        Images are taken a few batches ahead; with a batch size of 1, each is answered before the next comes.

        Yields:
            One result per image, in order.

        Raises:
            DataError: As in `predict`, when its turn comes.
            OptionError: As in `predict`.
        """
        answer = AnswerSpec(threshold=threshold, min_confidence=min_confidence)
        check_answer(answer, self.task, self.class_names)
        check_at_least("batch_size", batch_size, 1)
        if max_pixels is not None:
            check_at_least("max_pixels", max_pixels, 1)
        decoder = Decoder(self.pixels, max_pixels or affordable_pixels(cores()))
        singles, count = listed(images)
        depth = 1 if batch_size == 1 else 2 * batch_size
        decoded = ahead(partial(decode, decoder), singles, threads=cores(), depth=depth)
        numbered, run = enumerate(decoded), None
        batch_size = min(batch_size, count or batch_size)
        while batch := list(itertools.islice(numbered, batch_size)):
            run = run or self._forwarder.choose(count)
            yield from (replace(result, answer=answer) for result in self._forward(batch, batch_size, run))

    def forward(self, decoded: Sequence[Decoded]) -> list[ImageResult]:
        """Classify images that are decoded already, in one forward pass: `predict` without its threads."""
        return list(self._forward([*enumerate(decoded)], len(decoded), self._forwarder.choose(None)))

    def test(
        self,
        dataset: Dataset | PathLike,
        out: PathLike | None = None,
        *,
        batch_size: int = 16,
        max_pixels: int | None = None,
        cache: PathLike | None = None,
        through_model: bool = False,
        allow_missing: bool = False,
        images: str | None = None,
        compact: bool = False,
        corrections: PathLike | None = None,
        progress: bool = False,
    ) -> Tested:
        """Classify labeled images: the test part of a data set, if it is split.

        Args:
            dataset: The images, of known classes, or their path, as `Dataset.open` takes it.
            out: Folder for the files that `fastcls test` writes; None to write nothing.
            batch_size: Images per forward pass.
            max_pixels: See `predict`. Where it is given, all images are forwarded.
            cache: The cache of the run, or a folder of caches with it; None for where it was. Images whose
                bottlenecks are there are not forwarded again.
            through_model: Forward all images.
            allow_missing: Leave out images of classes that the classifier does not know, with a warning.
            images: "all", or "new" without those that had a part in the training; None for "new" if the run
                has held out some of the images, else "all".
            compact: Leave the probabilities of the classes out of predictions.csv.
            corrections: The issues.csv of an audit: figures with them are told beside those without.
            progress: Show a bar on stderr.

        Returns:
            Figures, predictions, and on what. `print(tested.evaluation.table())` is what the command prints.

        Raises:
            DataError: There is no image to test, a class is unknown to the classifier, or one side has one
                label per image and the other several.
            OptionError: `out` holds something else or cannot be made, or `cache` is not that of the run.
        """
        from fastcls.evaluation.tester import test

        place = None if cache is None else str(files.as_path(cache, "cache"))
        issues = None if corrections is None else str(files.as_path(corrections, "corrections"))
        return test(
            *(self, dataset, out),
            batch_size=batch_size,
            max_pixels=max_pixels,
            features=FeaturesSpec(through_model=through_model, cache=place),
            result=ResultSpec(allow_missing, images, compact, issues),
            progress=progress,
        )

    def known_images(self) -> UsedImages:
        """The images that had a part in it, if it was made in this process or is of a run."""
        return self.run.used if self.run else self.used

    @cached_property
    def run(self) -> Run | None:
        """The run that it is of, or that it was exported from; None where that is not known.

        Raises:
            OptionError: It is damaged.
        """
        if self.is_export:
            found: Run | None = self.__dict__["_file"].run
            return found
        return Run.of(self.source) if self.source else None

    @property
    def is_of_file(self) -> bool:
        """Whether its model is that of its file, and nobody has asked for it, who might have changed it."""
        return "_file" in self.__dict__

    @property
    def is_export(self) -> bool:
        """Whether it is an export, which has no Keras model."""
        return isinstance(self.__dict__.get("_file"), ExportFile)

    def require_keras(self) -> None:
        """Raise OptionError for an export, which has no Keras model."""
        if self.is_export:
            self.__dict__["_file"].load_model(self.size)

    @property
    def digest(self) -> str:
        """Of its file, or the files of an export; "" if its model may be another."""
        return self.__dict__["_file"].digest if self.is_of_file else ""

    def keep(self) -> None:
        """Convert the model of a file for this machine, where that was not done: later it starts at once."""
        self._forwarder.keep()

    @cached_property
    def _loaded(self) -> Any:
        return self.__dict__["_file"].load_model(self.size)

    @cached_property
    def _forwarder(self) -> Forwarder | ExportForwarder:
        if self.is_export:
            return ExportForwarder(self.__dict__["_file"].export)

        def load() -> Any:
            model = self._loaded if self.is_of_file else self.model
            return with_bottleneck(model) if self.familiarity else model

        kind = "classifier-bottleneck" if self.familiarity else "classifier"
        return Forwarder(kind, load, self.digest, self.engine)

    def _forward(
        self, batch: Sequence[tuple[int, Decoded]], batch_size: int, run: Forward
    ) -> Iterator[ImageResult]:
        images = np.zeros((batch_size, *self.size, 3), np.uint8)  # always full: one trace, steady results
        for place, (_, decoded) in enumerate(batch):
            if decoded.pixels is not None:
                images[place] = decoded.pixels
        # Beside the probabilities, the bottleneck.
        rows, bottlenecks = np.split(run(images), [len(self.class_names)], axis=1)
        scores = self.familiarity.score(bottlenecks).tolist() if self.familiarity else [None] * batch_size
        for (index, decoded), row, score in zip(batch, rows, scores, strict=False):
            said = (None, None) if decoded.pixels is None else (row, score)
            about = decoded.reason, AnswerSpec(), said[1], decoded.name, decoded.seconds
            yield ImageResult(index, decoded.path, said[0], self, *about)

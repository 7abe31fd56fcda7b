"""Test a classifier on labeled images: figures, tables, and what was tested on."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

import fastcls
from fastcls import files, graph
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset, Sample
from fastcls.errors import DataError, OptionError
from fastcls.evaluation.evaluator import METRICS, PREDICTIONS, file_names, write_evaluation
from fastcls.evaluation.judges import JUDGES, Figures
from fastcls.files import PathLike
from fastcls.optional import frame
from fastcls.parallel import spread
from fastcls.runs import CLASSIFIER, TESTS, Run
from fastcls.used_images import EARLIER, REFIT, TRAIN, UNKNOWN, VAL, UsedImages
from fastcls.wording import count_of

if TYPE_CHECKING:  # `Classifier.test` comes here
    import pandas

    from fastcls.inference.classifier import Classifier
    from fastcls.inference.results import ImageResult

_MEMBER = "tested_on"
_IN_WORDS = {
    TRAIN: "used for training",
    VAL: "used for validation",
    REFIT: "used for validation, then for training",
    EARLIER: "used by the run that it started from",
}
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestedOn:
    """On what a classifier was tested: the member "tested_on" of metrics.json.

    Attributes:
        data: The folder, table or pattern that was tested on, absolute.
        root: Folder that the paths of its images are relative to, absolute.
        part: "test", or "all" of a data set that is not split.
        images: How many, unreadable ones included.
        unreadable: How many of them gave no prediction.
        digest: Of the digests of all images with their classes: equal for the same ones, wherever they are.
        model: Digest of the classifier's file, or of the graph and weights of one that was never saved.
        seen: How many of the images had a part in the training, by their use: "train", "val", "refit"
            (validated, then trained on), or "earlier" by a run that this one went on from. None if that is
            unknown.
        date: When, in UTC.
        seconds: How long the predictions took.
        fastcls: Version that tested.
    """

    data: str
    root: str
    part: str
    images: int
    digest: str
    model: str
    seen: dict[str, int] | None
    date: str
    unreadable: int = 0
    seconds: float = 0.0
    fastcls: str = fastcls.__version__

    def __str__(self) -> str:
        part = f" (its {self.part} part)" if self.part != "all" else ""
        unreadable = f" ({self.unreadable} unreadable)" if self.unreadable else ""
        images = count_of(self.images, "image")
        return f"Tested on {self.data}{part}: {images}{unreadable}; {self._told}; {self.seconds:.1f} s"

    @property
    def _told(self) -> str:
        if self.seen is None:
            return "it is unknown which of them were used in training"
        told = [f"{count} {_IN_WORDS[use]}" for use, count in self.seen.items() if count]
        return ", ".join(told) or "none of them was used in training"

    @property
    def warning(self) -> str:
        """Why the figures are not those of images that the classifier has never seen; "" if they are."""
        if not self.seen or not any(self.seen.values()):
            return ""
        known = sum(self.seen.values())
        images, are = count_of(self.images, "image"), "is" if known == 1 else "are"
        return (
            f"{known:,} of the {images} {are} not new to the classifier ({self._told}): the results say "
            "little about new images. Test on other images"
        )

    def is_same(self, folder: Path) -> bool:
        """Whether the result in a folder is of the same images, classes and classifier."""
        try:
            earlier = files.read_json(folder / METRICS)[_MEMBER]
            return (earlier["digest"], earlier["model"]) == (self.digest, self.model)
        except (OSError, ValueError, KeyError, TypeError):
            return False


@dataclass(frozen=True)
class Tested:
    """A classifier's results on images of known class.

    Attributes:
        evaluation: The figures: an `Evaluation`, or a `MultiLabelEvaluation` of several labels per image.
        predictions: One per readable image: a `Prediction` or a `MultiLabelPrediction`.
        unreadable: The others, with the reason.
        on: On what it was tested.
        folder: Where tables and pictures are; None where none were asked for.
    """

    evaluation: Any
    predictions: tuple[Any, ...]
    unreadable: tuple[ImageResult, ...]
    on: TestedOn
    folder: Path | None

    def __repr__(self) -> str:
        return f"<{self.on}>"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files in the folder."""
        return file_names(self.evaluation)

    def to_frame(self) -> pandas.DataFrame:
        """A row per readable image, with what `Prediction` (or `MultiLabelPrediction`) has.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        names = [field.name for field in fields(self.predictions[0])]
        return frame(([getattr(row, name) for name in names] for row in self.predictions), names)


def test(
    classifier: Classifier,
    dataset: Dataset | PathLike,
    out: PathLike | None = None,
    *,
    batch_size: int = 16,
    max_pixels: int | None = None,
    progress: bool = False,
) -> Tested:
    """See `Classifier.test`."""
    folder = None if out is None else files.as_path(out, "out")
    given = batch_size, max_pixels, progress
    return _test(
        classifier, Dataset.of(dataset), classifier.source, folder, *given, is_written=folder is not None
    )


def run_test(
    place: Path,
    dataset: Dataset,
    out: Path | None = None,
    *,
    classifier: Classifier,
    batch_size: int = 16,
    max_pixels: int | None = None,
    progress: bool = False,
) -> Tested:
    """Classify the images of a data set (its test part, if it is split), and write tables and a picture.

    A result is never written over another one. That of the same classifier on the same images and classes
    stays as it is.

    Args:
        place: A run folder, or the file of a classifier.
        dataset: Images of classes that the classifier knows.
        out: Folder for what `write_evaluation` writes. By default it is called as the data set in the folder
            "test" of the run, with a number after it if a result of other images is there.
        classifier: The one in `place`.
        batch_size: Images per forward pass.
        max_pixels: See `Classifier.predict`.
        progress: Show a bar on stderr.

    Raises:
        OptionError: `out` holds something else or cannot be made.
        DataError: A class is unknown to the classifier, the images have one label each and the classifier
            gives several (or the other way round), or no image could be read.
    """
    return _test(classifier, dataset, place, out, batch_size, max_pixels, progress, is_written=True)


def find_test(place: Path, dataset: Dataset) -> tuple[Path, bool]:
    """Where `run_test` puts the result of a run, and whether it is there already.

    Args:
        place: The run folder.
        dataset: As there.
    """
    tested = _test_part(dataset)
    on = _tell(tested, "test" if dataset.splits else "all", files.file_digest(place / CLASSIFIER), UNKNOWN)

    def is_there(folder: Path) -> bool:
        return on.is_same(folder) and (folder / PREDICTIONS).is_file()

    folders = _folders(place, tested.name, None)
    folder = next(f for f in folders if is_there(f) or not f.exists() or _is_empty(f))
    return folder, is_there(folder)


def _test(
    classifier: Classifier,
    dataset: Dataset,
    place: Path | None,
    out: Path | None,
    batch_size: int,
    max_pixels: int | None,
    progress: bool,
    *,
    is_written: bool,
) -> Tested:
    tested = _test_part(dataset)
    _require_fitting(tested, classifier)
    run = Run.of(place) if place else None
    used, model = run.used if run else classifier.used, _model_digest(classifier, place)
    on = _tell(tested, "test" if dataset.splits else "all", model, used)
    if is_written:
        _require_free(next(_folders(place, tested.name, out)), on, is_asked_for=out is not None)
    if on.warning:
        logger.warning(on.warning)
    started = time.monotonic()
    readable, unreadable = _predict(classifier, tested, batch_size, max_pixels, progress)
    seconds = round(time.monotonic() - started, 3)
    on = replace(on, unreadable=len(unreadable), seconds=seconds)
    evaluation, predictions = _judge(classifier, tested, readable)
    folders = _folders(place, tested.name, out)
    folder = _write(evaluation, predictions, on, folders) if is_written else None
    return Tested(evaluation, predictions, unreadable, on, folder)


def _test_part(dataset: Dataset) -> Dataset:
    part = dataset.subset("test") if dataset.splits else dataset
    if not part.samples:
        raise DataError(
            f"{dataset.given} has no test part. Give a folder of images to test on, or split the data again"
        )
    return part


def _predict(
    classifier: Classifier, tested: Dataset, batch_size: int, max_pixels: int | None, progress: bool
) -> tuple[list[tuple[Sample, np.ndarray]], tuple[ImageResult, ...]]:
    """The probabilities of each readable image, and the others."""
    paths = [tested.locate(sample) for sample in tested.samples]
    stream = classifier.stream(paths, batch_size=batch_size, max_pixels=max_pixels)
    results = list(tqdm(stream, total=len(paths), unit="image", desc="test", disable=not progress))
    pairs = zip(tested.samples, results, strict=True)
    readable = [(sample, found.probabilities) for sample, found in pairs if found.probabilities is not None]
    if not readable:
        raise DataError(f"None of the {count_of(len(results), 'test image')} of {tested.given} could be read")
    return readable, tuple(found for found in results if found.probabilities is None)


def _judge(
    classifier: Classifier, tested: Dataset, readable: list[tuple[Sample, np.ndarray]]
) -> tuple[Figures, tuple[Any, ...]]:
    known = [(sample.path, tested.names_of(sample)) for sample, _ in readable]
    labels = classifier.task.encode([names for _, names in known], classifier.class_names)
    probabilities = np.stack([row for _, row in readable])
    judge = JUDGES[classifier.task]
    return judge(known, labels, probabilities, classifier.class_names, classifier.thresholds)


# On what


def _tell(tested: Dataset, part: str, model: str, used: UsedImages) -> TestedOn:
    digests = list(spread(image_bytes.digest_or_blank, map(tested.locate, tested.samples)))
    named = sorted(zip(digests, map(tested.names_of, tested.samples), strict=True))
    return TestedOn(
        data=_as_text(tested.origin),
        root=_as_text(tested.root.absolute()),
        part=part,
        images=len(digests),
        digest=files.json_digest(named),
        model=model,
        seen=used.count(digests),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _model_digest(classifier: Classifier, place: Path | None) -> str:
    if place is None:
        parts = (graph.architecture_digest(classifier.model), graph.weights_digest(classifier.model))
        return files.json_digest(parts)
    return files.file_digest(place / CLASSIFIER if place.is_dir() else place)


def _as_text(path: Path) -> str:
    return os.fsencode(path).decode(errors="replace")  # JSON is UTF-8, paths need not be


# Where


def _folders(place: Path | None, name: str, out: Path | None) -> Iterator[Path]:
    """The folders that a result may have, the first choice first."""
    if out is not None:
        yield out
    if out is not None or place is None:
        return
    root = (place if place.is_dir() else place.parent) / TESTS
    for number in itertools.count(1):
        yield root / (f"{name}-{number}" if number > 1 else name)


def _require_free(folder: Path, on: TestedOn, *, is_asked_for: bool) -> None:
    if is_asked_for and folder.exists() and not on.is_same(folder) and not _is_empty(folder):
        raise OptionError(
            f"{folder} already exists, and is not a result of this classifier on these images. Choose "
            "another --out, or remove it first"
        )
    files.require_writable(folder)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write(evaluation: Figures, predictions: Any, on: TestedOn, folders: Iterator[Path]) -> Path:
    """Write a result to the first folder that is free, or find the same one there."""
    for folder in folders:
        if on.is_same(folder) and _holds(folder, evaluation):
            return folder
        if folder.exists() and not _is_empty(folder):
            continue
        try:
            with files.atomic_folder(folder) as unfinished:
                write_evaluation(evaluation, predictions, unfinished, about={_MEMBER: asdict(on)})
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue  # another process has been quicker
        return folder
    raise OptionError(
        "--out now holds another result, from another process or with other readable images. Choose another "
        "--out, or remove it first"
    )


def _holds(folder: Path, evaluation: Figures) -> bool:
    """Whether the figures in a folder are these, and the predictions are there."""
    known = {name: value for name, value in files.read_json(folder / METRICS).items() if name != _MEMBER}
    is_same = files.json_digest(known) == files.json_digest(evaluation.to_dict())
    return is_same and (folder / PREDICTIONS).is_file()


def _require_fitting(dataset: Dataset, classifier: Classifier) -> None:
    if classifier.task is not dataset.task:
        raise DataError(
            f"The classifier predicts {classifier.task} per image, {dataset.given} has {dataset.task}. A CSV "
            "has several with --label-separator, or with a column of 0 and 1 per class"
        )
    # Not of all `class_names`: a table may have columns of classes that no image has.
    unknown = sorted(set(dataset.found_classes) - set(classifier.class_names))
    if unknown:
        raise DataError(
            f"The classifier does not know the classes {', '.join(unknown)} of {dataset.given}. It knows: "
            f"{', '.join(classifier.class_names)}"
        )

"""Test a classifier on labeled images: figures, tables, and what was tested on."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcls import files, graph
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.errors import DataError, OptionError
from fastcls.evaluation.corrected import Corrector
from fastcls.evaluation.evaluator import PREDICTIONS, file_names, write_evaluation
from fastcls.evaluation.figures import Figures
from fastcls.evaluation.from_cache import cache_of
from fastcls.evaluation.gone import open_tested, recall_digests
from fastcls.evaluation.held_out import ALL, NEW, Chosen, choose_images
from fastcls.evaluation.judges import JUDGES
from fastcls.evaluation.predicting import Forwarding, Predicted, predict
from fastcls.evaluation.tested_on import FORWARDED, MEMBER, TestedOn, tested_on
from fastcls.files import PathLike
from fastcls.metrics_record import read_metrics
from fastcls.optional import frame
from fastcls.parallel import spread
from fastcls.runs import CLASSIFIER, TESTS, Run
from fastcls.specs import FeaturesSpec, ResultSpec
from fastcls.used_images import UNKNOWN, UsedImages
from fastcls.wording import count_of, some_of

if TYPE_CHECKING:  # `Classifier.test` comes here
    import pandas

    from fastcls.inference.classifier import Classifier
    from fastcls.inference.results import ImageResult

logger = logging.getLogger(__name__)


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
        return f"<{str(self.on).splitlines()[0]}>"

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
    features: FeaturesSpec | None = None,
    result: ResultSpec | None = None,
    progress: bool = False,
) -> Tested:
    """See `Classifier.test`."""
    folder = None if out is None else files.as_path(out, "out")
    how = Forwarding(classifier, batch_size, max_pixels, progress)
    asked = features or FeaturesSpec(through_model=max_pixels is not None)
    place, asked_for = classifier.source, (asked, result or ResultSpec())
    data = Path() if isinstance(dataset, Dataset) else files.as_path(dataset, "dataset", "a Dataset")

    def read() -> Dataset:
        return dataset if isinstance(dataset, Dataset) else Dataset.open(data, for_test=True)

    opened = open_tested(read, data, place, asked)
    return _test(how, opened, place, folder, *asked_for, is_written=folder is not None)


def run_test(
    place: Path,
    dataset: Dataset,
    out: Path | None = None,
    *,
    classifier: Classifier,
    batch_size: int = 16,
    max_pixels: int | None = None,
    features: FeaturesSpec | None = None,
    result: ResultSpec | None = None,
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
        features: What of the images is forwarded again; nothing that the cache of the run holds, by default.
        result: What the result holds.
        progress: Show a bar on stderr.

    Raises:
        OptionError: `out` holds something else or cannot be made, or a cache is given that is not that of the
            run.
        DataError: A class is unknown to the classifier, the images have one label each and the classifier
            gives several (or the other way round), or no image could be read.
    """
    how = Forwarding(classifier, batch_size, max_pixels, progress)
    asked_for = features or FeaturesSpec(), result or ResultSpec()
    return _test(how, dataset, place, out, *asked_for, is_written=True)


def find_test(place: Path, dataset: Dataset) -> tuple[Path, bool]:
    """Where `run_test` puts the result of a run, and whether it is there already.

    Args:
        place: The run folder.
        dataset: As there.
    """
    tested = _test_part(dataset)
    model = files.file_digest(place / CLASSIFIER)
    on = _tell(tested, "test" if dataset.splits else "all", _digests(tested), model, UNKNOWN)

    def is_there(folder: Path) -> bool:
        return on.is_same(folder) and (folder / PREDICTIONS).is_file()

    folders = _folders(place, tested.name, None)
    folder = next(f for f in folders if is_there(f) or not f.exists() or _is_empty(f))
    return folder, is_there(folder)


def _test(
    how: Forwarding,
    dataset: Dataset,
    place: Path | None,
    out: Path | None,
    features: FeaturesSpec,
    result: ResultSpec,
    *,
    is_written: bool,
) -> Tested:
    classifier, part = how.classifier, _test_part(dataset)
    tested = _fitting(part, classifier, allow_missing=result.allow_missing)
    run = classifier.run if classifier.is_export else Run.of(place) if place else None
    if classifier.is_export:
        place, features = _of_export(classifier, features)
    source = None if features.through_model else cache_of(run, features.cache)
    used, model = run.used if run else classifier.used, _model_digest(classifier, place)
    found_digests = _digests(tested)
    digests = recall_digests(source.cache, tested, found_digests) if source else found_digests
    left_out = len(part.samples) - len(tested.samples)
    chosen = choose_images(tested, digests, used, run, asked=result.images, cache=features.cache)
    tested = replace(tested, samples=tuple(tested.samples[place] for place in chosen.places))
    digests, found_digests = ([each[place] for place in chosen.places] for each in (digests, found_digests))
    gone = np.array([bool(known) and not read for known, read in zip(digests, found_digests, strict=True)])
    on = _tell(tested, _name_of(dataset, chosen), digests, model, used)
    on = replace(on, left_out=left_out, gone=int(gone.sum()), compact=result.compact)
    on = replace(on, used=chosen.used, added=chosen.added)
    corrector = Corrector.of(result.corrections, tested, digests, classifier)
    on = replace(on, corrections=corrector.digest if corrector else "")
    if is_written:
        _require_free(next(_folders(place, tested.name, out)), on, features, is_asked_for=out is not None)
    if warning := on.warn(run.folder if run and not classifier.is_export else place):
        logger.warning(warning)
    started = time.monotonic()
    labels = classifier.task.encode([*map(tested.names_of, tested.samples)], classifier.class_names)
    found = predict(tested, labels, digests, source, how, gone=gone)
    on = replace(on, seconds=round(time.monotonic() - started, 3), **found.told)
    if corrector:
        on = replace(on, corrected=corrector.judge(found.probabilities, found.readable))
    evaluation, predictions = _judge(classifier, tested, labels, found)
    folders = _folders(place, tested.name, out)
    scores = None if found.unfamiliarity is None else found.unfamiliarity[found.readable].tolist()

    def write(folder: Path) -> None:
        about = {MEMBER: asdict(on)}
        known = evaluation, predictions, folder
        write_evaluation(*known, about=about, compact=on.compact, unfamiliarity=scores)

    folder = _write(evaluation, write, on, folders, features) if is_written else None
    return Tested(evaluation, predictions, found.unreadable, on, folder)


def _of_export(classifier: Classifier, features: FeaturesSpec) -> tuple[Path | None, FeaturesSpec]:
    """The folder that an export is in, and what of the images it forwards: all."""
    if features.cache:
        raise OptionError("A cache is of no use for an export, which forwards all images. Remove --cache")
    return classifier.source and classifier.source.parent, replace(features, through_model=True)


def _test_part(dataset: Dataset) -> Dataset:
    part = dataset.subset("test") if dataset.splits else dataset
    if not part.samples:
        raise DataError(
            f"{dataset.given} has no test part. Give a folder of images to test on, or split the data again"
        )
    return part


def _judge(
    classifier: Classifier, tested: Dataset, labels: np.ndarray, found: Predicted
) -> tuple[Figures, tuple[Any, ...]]:
    places = found.readable
    if not places:
        images = count_of(len(labels), "test image")
        raise DataError(f"None of the {images} of {tested.given} could be read")
    samples = [tested.samples[place] for place in places]
    known = [(sample.path, tested.names_of(sample)) for sample in samples]
    judge = JUDGES[classifier.task]
    rows = found.probabilities[places]
    return judge(known, labels[places], rows, classifier.class_names, classifier.thresholds)


# On what


def _digests(tested: Dataset) -> list[str]:
    return list(spread(image_bytes.digest_or_blank, map(tested.locate, tested.samples)))


def _tell(tested: Dataset, part: str, digests: list[str], model: str, used: UsedImages) -> TestedOn:
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


def _name_of(dataset: Dataset, chosen: Chosen) -> str:
    if dataset.splits:
        return "test"
    return NEW if chosen.used else ALL


def _model_digest(classifier: Classifier, place: Path | None) -> str:
    if classifier.is_export:
        return classifier.digest
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


def _require_free(folder: Path, on: TestedOn, features: FeaturesSpec, *, is_asked_for: bool) -> None:
    if is_asked_for and folder.exists() and not _is_empty(folder):
        if not on.is_same(folder):
            raise OptionError(
                f"{folder} already exists, and is not a result of this classifier on these images. Choose "
                "another --out, or remove it first"
            )
        if lacking := _lacking(folder, on, features):
            raise OptionError(
                f"{folder} already exists, with a result that was {lacking}. Choose another --out, or remove "
                "it first"
            )
    files.require_writable(folder)


def _lacking(folder: Path, on: TestedOn, features: FeaturesSpec) -> str:
    """How the result in a folder was not made as it is asked for; "" where it does."""
    known = tested_on(folder)
    if features.through_model and known.get("features") != FORWARDED:
        return "not made with --through-model"
    if on.corrections and known.get("corrections") != on.corrections:
        return "made without these corrections"
    return "made with --compact" if known.get("compact") and not on.compact else ""


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write(
    evaluation: Figures,
    write: Callable[[Path], None],
    on: TestedOn,
    folders: Iterator[Path],
    features: FeaturesSpec,
) -> Path:
    """Write a result to the first folder that is free, or find the same one there."""
    for folder in folders:
        if on.is_same(folder) and not _lacking(folder, on, features) and _holds(folder, evaluation):
            return folder
        if folder.exists() and not _is_empty(folder):
            continue
        try:
            with files.atomic_folder(folder) as unfinished:
                write(unfinished)
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
    """Whether the figures in a folder are these, and all files are there.

    Those that only count are compared: others change with the rounding of the bottlenecks.
    """
    known, new = read_metrics(folder), evaluation.to_dict()
    is_same = all(known.get(name) == new[name] for name in evaluation.counted)
    return is_same and all((folder / name).is_file() for name in file_names(evaluation))


def _fitting(dataset: Dataset, classifier: Classifier, *, allow_missing: bool) -> Dataset:
    """The images whose classes the classifier knows: all of them, or those that are left."""
    if classifier.task is not dataset.task:
        raise DataError(
            f"The classifier predicts {classifier.task} per image, {dataset.given} has {dataset.task}. A CSV "
            "has several with --label-separator, or with a column of 0 and 1 per class"
        )
    # Not of all `class_names`: a table may have columns of classes that no image has.
    unknown = set(dataset.found_classes) - set(classifier.class_names)
    if not unknown:
        return dataset
    known = [sample for sample in dataset.samples if unknown.isdisjoint(dataset.names_of(sample))]
    images = count_of(len(dataset.samples) - len(known), "image")
    fact = (
        f"The classifier does not know the classes {some_of(sorted(unknown))} of {dataset.given} ({images})"
    )
    if not (allow_missing and known):
        remedy = ". --allow-missing leaves them out" if known else ". Give images of these, under these names"
        raise DataError(f"{fact}. It knows: {some_of(classifier.class_names)}{remedy}")
    logger.warning("%s: they are left out", fact)
    return replace(dataset, samples=tuple(known))

"""Calibrate a run: what its probabilities say is fitted to images that its head was not fitted to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import runs
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.derived_runs import derived
from fastcls.errors import OptionError
from fastcls.evaluation.calibration import (
    Calibration,
    Reliability,
    cross_calibrate,
    fit_calibration,
    measure,
)
from fastcls.evaluation.features import features_of_run
from fastcls.evaluation.from_cache import require_cache
from fastcls.files import PathLike, as_path
from fastcls.inference.calibrated import calibrated_model
from fastcls.inference.classifier import Classifier
from fastcls.parallel import spread
from fastcls.runs import Run
from fastcls.training.head_reader import head_spec, load_head
from fastcls.training.loop.progress import announce
from fastcls.training.out_of_fold import out_of_fold
from fastcls.used_images import REFIT, TRAIN, VAL
from fastcls.wording import count_of

MEMBER = "calibration"
_VALIDATION, _OUT_OF_FOLD = "validation", "out of fold"
_LEAST_IMAGES = 10
_RESTORE = "A calibration needs the bottlenecks in it: move it back, or run the same training again"


@dataclass(frozen=True)
class Calibrated:
    """What a calibration has brought.

    Attributes:
        folder: The new run.
        calibration: What logits are multiplied by, and what is added.
        measured_on: "validation", or "out of fold": predictions of heads that were fitted to other images.
        images: How many.
        before: On these images.
        after: On these images, each fifth calibrated by what was fitted to the others.
        class_names: The classes.
        thresholds: Of the calibrated classes, with several labels per image; None with one.
    """

    folder: Path
    calibration: Calibration
    measured_on: str
    images: int
    before: Reliability
    after: Reliability
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What fastcls.json and run.json say of it."""
        own = asdict(self.calibration)
        measured = {"before": asdict(self.before), "after": asdict(self.after)}
        return {**own, "measured_on": self.measured_on, "images": self.images, **measured}


@dataclass(frozen=True)
class _Judged:
    """Predictions for images that the head was not fitted to.

    Attributes:
        probabilities: (N, C).
        labels: Their label array.
        by: "validation" or "out of fold".
        missing: How many further images have no prediction.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    by: str
    missing: int = 0


def calibrate(run: PathLike, out: PathLike, dataset: Dataset | PathLike | None = None) -> Calibrated:
    """Make a run of another one whose probabilities are calibrated: see `fastcls.evaluation.calibration`.

    The head is judged on the images that it was validated on. Where it was fitted to these as well, or there
    are none, heads of the same kind judge all images that it was fitted to, each those of a fold that it was
    not fitted to. Predictions stay the same: thresholds are moved with the probabilities.

    Args:
        run: The run folder; it stays as it is.
        out: The folder of the new run.
        dataset: Where the images are that it was validated on, for a network that was finetuned.

    Returns:
        What it has brought.

    Raises:
        OptionError: `out` holds something, the run is calibrated already, its head cannot be calibrated, or
            there is nothing to judge it on.
    """
    source, folder = Run.open(as_path(run, "run")), as_path(out, "out")
    runs.require_new(folder)
    _require_able(source)
    judged = _judge(source, None if dataset is None else Dataset.of(dataset))
    task = source.task
    calibration = fit_calibration(judged.probabilities, judged.labels, task)
    crossed = cross_calibrate(judged.probabilities, judged.labels, task)
    made = Calibrated(
        folder,
        calibration,
        judged.by,
        len(judged.labels),
        before=measure(judged.probabilities, judged.labels, task),
        after=measure(crossed, judged.labels, task),
        class_names=tuple(source.record["class_names"]),
        thresholds=calibration.move(source.record["thresholds"]),
    )
    _write(source, made)
    return made


def _require_able(run: Run) -> None:
    kind = _kind(run)
    if kind == "knn":
        raise OptionError(
            f"{run.folder} has a head of kind knn: its votes are no logits that could be scaled. Calibrate a "
            "run of another: fastcls train-head CACHE --head logreg --out RUN"
        )
    if MEMBER in run.record:
        raise OptionError(f"{run.folder} is calibrated already. Calibrate the run that it was made of")


def _kind(run: Run) -> str:
    """Of its head; "" of a network that was finetuned."""
    return head_spec(run).kind if runs.HEAD in run.record["files"] else ""


def _judge(run: Run, dataset: Dataset | None) -> _Judged:
    if dataset is not None:
        judged = _forward(run, dataset)
    elif not _kind(run):
        raise OptionError(
            f"{run.folder} was finetuned, so no cache has the images that it was validated on. Give their "
            "folder or table: fastcls calibrate RUN DATA --out RUN2"
        )
    else:
        judged = _judge_cached(run) if _labels_by_digest(run, VAL) else _judge_folds(run)
    if len(judged.labels) < _LEAST_IMAGES and judged.missing:
        raise OptionError(
            f"The cache of {run.folder} lacks the bottlenecks of {judged.missing:,} of the "
            f"{len(judged.labels) + judged.missing:,} images to calibrate on. Run the same `fastcls extract` "
            "again: it forwards them"
        )
    if len(judged.labels) < _LEAST_IMAGES:
        raise OptionError(
            f"Only {count_of(len(judged.labels), 'image')} could be judged, and a calibration needs at least "
            f"{_LEAST_IMAGES}. Train with more images for validation"
        )
    return judged


def _labels_by_digest(run: Run, *uses: str) -> dict[str, tuple[str, ...]]:
    return {image.digest: image.labels for image in run.used.images if image.use in uses}


def _judge_cached(run: Run) -> _Judged:
    """What the head says of the images that it was validated on."""
    source = require_cache(run, _RESTORE)
    known = _labels_by_digest(run, VAL)
    return _judged(run, source.probabilities([*known]), [*known.values()], _VALIDATION)


def _judge_folds(run: Run) -> _Judged:
    """What heads of the same kind say of the images that they were not fitted to."""
    spec = head_spec(run)
    if not spec.is_fitted or spec.traits.is_fixed:
        raise OptionError(
            f"{run.folder} was trained without validation: there is nothing to judge its probabilities on. "
            "Train it with validation: fastcls train-head CACHE --val 0.2 --out RUN"
        )
    require_cache(run, _RESTORE)
    features = features_of_run(run)
    features = features.take(np.isin(features.uses, (TRAIN, REFIT)))
    known, names = _labels_by_digest(run, TRAIN, REFIT), run.record["class_names"]
    labels = run.task.encode([known[digest] for digest in features.digests.tolist()], names)
    groups = features.groups
    announce("Heads that judge the images that they were not fitted to (out of fold)")
    found = out_of_fold(features.rows, labels, run.task, len(names), groups=groups, spec=spec)
    return _Judged(found.probabilities, labels, _OUT_OF_FOLD)


def _forward(run: Run, dataset: Dataset) -> _Judged:
    """What the classifier says of images of a data set: those that the run was validated on."""
    known = _labels_by_digest(run, VAL)
    paths = [dataset.locate(sample) for sample in dataset.samples]
    digests = list(spread(image_bytes.digest_or_blank, paths))
    found = {digest: path for digest, path in zip(digests, paths, strict=True) if digest in known}
    if not found:
        raise OptionError(
            f"{dataset.given} has none of the {count_of(len(known), 'image')} that {run.folder} was "
            "validated on, and it may have been fitted to others. Give the data that it was trained on"
        )
    rows = Classifier.load(run.folder).predict(list(found.values())).probabilities
    return _judged(run, rows, [known[digest] for digest in found], _VALIDATION)


def _judged(run: Run, rows: np.ndarray, labels: list[tuple[str, ...]], by: str) -> _Judged:
    """Predictions without those of images that have none."""
    present = np.isfinite(rows).all(axis=1)
    encoded = run.task.encode(labels, run.record["class_names"])
    return _Judged(rows[present], encoded[present], by, int((~present).sum()))


def _write(run: Run, made: Calibrated) -> None:
    def change(model: Any) -> Any:
        return calibrated_model(model, made.calibration, run.task.activation)

    with derived(run, made.folder, "calibrate") as (folder, record):
        if runs.HEAD in run.record["files"]:
            change(load_head(run.folder).model).save(folder / runs.HEAD)
        classifier = Classifier.load(run.folder)
        provenance = {**classifier.provenance, MEMBER: made.told}
        changed = {"model": change(classifier.model), "thresholds": made.thresholds}
        made_of = replace(classifier, **changed, provenance=provenance)
        made_of.save(folder / runs.CLASSIFIER)
        record |= {MEMBER: made.told, "thresholds": made.thresholds}

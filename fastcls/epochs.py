"""The checkpoints that a training has kept: compared on validation images, and made a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files, runs
from fastcls.data import image_bytes
from fastcls.data.csv_table import as_csv
from fastcls.data.dataset import Dataset
from fastcls.derived_runs import derived
from fastcls.errors import OptionError, closest
from fastcls.evaluation.decisions import LOWER_IS_BETTER, decide, figures_of_decisions
from fastcls.evaluation.from_cache import CachedRun, is_on_cache, require_cache
from fastcls.evaluation.text_table import format_table
from fastcls.files import PathLike, as_path
from fastcls.inference.classifier import Classifier
from fastcls.inference.forwarder import Forwarder
from fastcls.parallel import spread
from fastcls.runs import Run
from fastcls.specs.testing import EpochsSpec
from fastcls.training.head_reader import load_head, train_config
from fastcls.training.loop.snapshots import Snapshot
from fastcls.training.loop.thresholds import choose_thresholds
from fastcls.used_images import VAL, UsedImage

_FOLDER, _TABLE = "checkpoints", "epochs.csv"
_BLOCK = 1024  # rows that are in memory at once


@dataclass(frozen=True)
class EpochsTested:
    """The kept checkpoints of a run, on the images that it was validated on.

    Attributes:
        folder: Where the tables are.
        rows: For each checkpoint its name, its epoch, and figures: see `figures_of_decisions`.
        best: Name of the best one.
        spec: What it is the best by.
        images: How many were judged.
    """

    folder: Path
    rows: tuple[Mapping[str, Any], ...]
    best: str
    spec: EpochsSpec
    images: int

    def table(self) -> str:
        """The figures as text."""
        names = [name for name in self.rows[0] if name != "epoch"]
        lines = [[row["checkpoint"], *(f"{row[name]:.4f}" for name in names[1:])] for row in self.rows]
        return format_table([[name.replace("_", " ") for name in names], *lines])


def test_epochs(
    run: PathLike,
    dataset: Dataset | PathLike | None = None,
    out: PathLike | None = None,
    spec: EpochsSpec | None = None,
) -> EpochsTested:
    """Compare the checkpoints that a run has kept.

    Args:
        run: The run folder.
        dataset: Where the images are that it was validated on, for a network that was finetuned; a head is
            tested on the cache.
        out: Folder for the tables: `epochs` in the run by default.
        spec: What the best is chosen by.

    Raises:
        OptionError: There are no checkpoints, or no images to test them on; or `out` holds something.
    """
    source, spec = Run.open(as_path(run, "run")), spec or EpochsSpec(epochs=True)
    folder = source.folder / "epochs" if out is None else as_path(out, "out")
    names = kept_checkpoints(source)
    files.require_new(folder)
    predict, images = _predictor(
        source, _validated_on(source), None if dataset is None else Dataset.of(dataset)
    )
    if not images:
        raise OptionError(
            f"No image that {source.folder} was validated on is there, so that no epoch can be tested. Train "
            "with validation, or restore the cache or the images"
        )
    task, classes = source.task, source.record["class_names"]
    labels = task.encode([image.labels for image in images], classes)
    rows = []
    with files.atomic_folder(folder) as unfinished:
        for name in names:
            probabilities, thresholds = predict(source.file(f"{_FOLDER}/{name}"))
            present = np.isfinite(probabilities).all(axis=1)
            figures = figures_of_decisions(
                probabilities[present], labels[present], task, thresholds, spec.coverage_at
            )
            epoch = int(Path(name).stem.removeprefix("epoch-"))
            rows.append({"checkpoint": Path(name).stem, "epoch": epoch, **figures})
            decided = decide(probabilities, task, thresholds)
            lines = _prediction_rows(source, images, probabilities, decided)
            _write(unfinished / f"{Path(name).stem}.csv", lines)
        head = [*rows[0], "confidence"]
        _write(unfinished / _TABLE, [head, *([*row.values(), spec.coverage_at] for row in rows)])
    best = min(rows, key=lambda row: (_cost(row, spec.metric), row["log_loss"]))
    return EpochsTested(folder, tuple(rows), str(best["checkpoint"]), spec, len(images))


def kept_checkpoints(run: Run) -> list[str]:
    """Names of the files of the checkpoints that a run has kept.

    Raises:
        OptionError: There are none.
    """
    kept = [Path(name).name for name in run.record["files"] if name.startswith(f"{_FOLDER}/")]
    if not kept:
        raise OptionError(
            f"{run.folder} has kept no checkpoint. Train in epochs and keep some: fastcls train-head CACHE "
            "--head linear --checkpoint-every 1 --checkpoint-keep 50 --out RUN"
        )
    return sorted(kept)


def _cost(row: Mapping[str, Any], metric: str) -> float:
    value = float(row[metric])
    return value if metric == LOWER_IS_BETTER else -value


def _predictor(run: Run, images: list[UsedImage], dataset: Dataset | None) -> tuple[Any, list[UsedImage]]:
    """What gives probabilities (N, C) and thresholds for a checkpoint, and the images that are there."""
    if runs.HEAD in run.record["files"]:
        source = require_cache(run, "Restore it to test epochs")
        rows = source.cache.index().locate([image.digest for image in images])
        present = np.flatnonzero(rows.present)
        kept = [images[place] for place in present.tolist()]
        located = rows.take(present)

        def of_head(path: Path) -> tuple[np.ndarray, Sequence[float] | None]:
            head = load_head(path)
            forward = Forwarder("head", lambda: head.model).choose(None)
            found = np.full((len(kept), len(head.class_names)), np.nan, np.float32)
            for places in located.blocks(_BLOCK):
                found[places] = forward(located.take(places).read().astype(np.float32, copy=False))
            return found, _thresholds(run, kept, found, head.thresholds)

        return of_head, kept
    if dataset is None:
        raise OptionError(
            f"{run.folder} was finetuned, so no cache has the images that it was validated on. Give their "
            "folder or table: fastcls test RUN DATA --epochs"
        )
    paths = [dataset.locate(sample) for sample in dataset.samples]
    places = dict(zip(spread(image_bytes.digest_or_blank, paths), paths, strict=True))
    there = [image for image in images if image.digest in places]

    def of_network(path: Path) -> tuple[np.ndarray, Sequence[float] | None]:
        classifier = Classifier.load(path)
        found = classifier.predict([places[image.digest] for image in there])
        return found.probabilities, classifier.thresholds

    return of_network, there


def _thresholds(
    run: Run, images: Sequence[UsedImage], probabilities: np.ndarray, default: Sequence[float] | None
) -> Sequence[float] | None:
    """The thresholds of a checkpoint of a head, chosen as those of a finished one."""
    if default is None or not images:
        return default
    kind, names = train_config(run).threshold or "single", run.record["class_names"]
    if not isinstance(kind, str):
        return (kind,) * len(names)
    targets = run.task.encode([image.labels for image in images], names)
    return choose_thresholds(kind, targets, probabilities, names)


def _prediction_rows(
    run: Run, images: Sequence[UsedImage], probabilities: np.ndarray, decided: np.ndarray
) -> list[list[Any]]:
    task, names = run.task, np.array(run.record["class_names"], object)
    lines: list[list[Any]] = [["path", task.column, "predicted", "confidence", "correct"]]
    for image, row, own in zip(images, probabilities, decided, strict=True):
        predicted = tuple(names[own].tolist())
        is_right = sorted(predicted) == sorted(image.labels)
        told = [task.write_cell(image.labels), task.write_cell(predicted)]
        lines.append([image.path, *told, f"{row.max():.6f}", int(is_right)])
    return lines


def _write(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", **files.CSV_TEXT) as file:
        file.write(as_csv(rows))


def promote(run: PathLike, checkpoint: str, out: PathLike) -> Path:
    """Make a kept checkpoint a run of its own.

    Args:
        run: The run folder; it stays as it is.
        checkpoint: Its epoch ("12"), its name ("epoch-0012") or its path.
        out: The folder of the new run.

    Returns:
        The new run.

    Raises:
        OptionError: There is no such checkpoint, or `out` holds something.
    """
    source, folder = Run.open(as_path(run, "run")), as_path(out, "out")
    runs.require_new(folder)
    path = source.file(f"{_FOLDER}/{_named(source, checkpoint)}")
    row = Snapshot.read(path).state["history"][-1]
    told = {"promoted": path.stem, "figures": row}
    cached = require_cache(source, "Restore it to promote a checkpoint") if is_on_cache(source) else None
    with derived(source, folder, "promote") as (made, record):
        classifier = _write_head(source, cached, path, made) if cached else Classifier.load(path)
        known = {**Classifier.load(source.folder).provenance, **told}
        replace(classifier, model=classifier.model, provenance=known).save(made / runs.CLASSIFIER)
        record |= {**told, "thresholds": classifier.thresholds}
        record.pop("calibration", None)
    return folder


def _named(run: Run, checkpoint: str) -> str:
    kept = kept_checkpoints(run)
    stem = Path(checkpoint).stem
    name = f"epoch-{int(stem):04}.keras" if stem.isdecimal() else f"{stem}.keras"
    if name not in kept:
        raise OptionError(
            f"{run.folder} has kept no checkpoint {checkpoint!r}. The closest are {closest(name, kept)}"
        )
    return name


def _write_head(run: Run, cached: CachedRun, path: Path, folder: Path) -> Classifier:
    head = load_head(path)
    head.model.save(folder / runs.HEAD)
    predict, _ = _predictor(run, _validated_on(run), None)
    _, thresholds = predict(path)
    joined = Classifier.join(cached.cache, head)
    known = Classifier.load(run.folder).familiarity
    return replace(joined, thresholds=thresholds and tuple(thresholds), familiarity=known)


def _validated_on(run: Run) -> list[UsedImage]:
    return [image for image in run.used.images if image.use == VAL]

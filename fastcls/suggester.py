"""Suggest which images of a folder to label next, by a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.data.csv_table import as_csv
from fastcls.data.dataset import Dataset
from fastcls.data.unlabeled import open_unlabeled
from fastcls.errors import DataError, OptionError
from fastcls.evaluation.features import Features, features_of_run
from fastcls.evaluation.from_cache import CachedRun, require_cache
from fastcls.evaluation.suggesting import choose_to_label
from fastcls.extraction.extractor import extract
from fastcls.files import PathLike, as_path
from fastcls.runs import Run
from fastcls.specs import BaseSpec, CutSpec, check_at_least
from fastcls.wording import count_of

_COLUMNS = ("path", "predicted", "confidence", "margin", "nearest_class", "nearest", "similarity")


@dataclass(frozen=True)
class Suggestion:
    """An image to label.

    Attributes:
        path: Relative to the folder.
        predicted: What the run says of it; "" for no class.
        confidence: Probability of the most probable class.
        margin: How clear the decision is: 0 where two classes are equally probable, or with several labels
            where a class is at its threshold.
        nearest_class: Of the most similar labeled image.
        nearest: Its path in its data set.
        similarity: Cosine of the bottlenecks of both.
    """

    path: str
    predicted: str
    confidence: float
    margin: float
    nearest_class: str
    nearest: str
    similarity: float


@dataclass(frozen=True)
class Suggested:
    """What to label.

    Attributes:
        folder: The images.
        images: How many were chosen from.
        forwarded: How many had to be forwarded.
        labeled: How many images of the folder are in the data set of the run, and are left out.
        suggestions: The first choice first.
        file: The table; None where none was asked for.
    """

    folder: Path
    images: int
    forwarded: int
    labeled: int
    suggestions: tuple[Suggestion, ...]
    file: Path | None = None


def suggest(
    folder: PathLike,
    run: PathLike,
    count: int = 50,
    out: PathLike | None = None,
    *,
    progress: bool = False,
) -> Suggested:
    """Suggest which images to label next; see `fastcls.evaluation.suggesting`.

    Images whose bottlenecks the cache of the run lacks are forwarded into it. Copies of images that had a
    part in the run are left out.

    Args:
        folder: Images without classes.
        run: A run with a head on a cache.
        count: How many to suggest.
        out: A CSV file to write; None to write none.
        progress: Show a bar on stderr.

    Raises:
        DataError: The folder has no image, or none that is new.
        OptionError: The run has no head on a cache, its cache is gone, or `out` holds something else.
    """
    check_at_least("count", count, 1)
    known, table = Run.open(as_path(run, "run")), None if out is None else as_path(out, "out")
    if table:
        files.require_new(table)
    dataset = open_unlabeled(folder)
    source, listed = _source(known)
    labeled = listed.take(np.array(listed.uses) != "")
    features, forwarded = _features(known, source, dataset, progress=progress)
    new, seen = _new(features, listed)
    if not len(new):
        images = count_of(len(features), "image")
        raise DataError(
            f"All {images} of {dataset.root} are in the data set of {known.folder}. Give other images"
        )
    suggestions = _choose(source, new, labeled, count)
    if table:
        _write(table, suggestions)
    return Suggested(dataset.root, len(new), forwarded, seen, suggestions, table)


def _source(run: Run) -> tuple[CachedRun, Features]:
    """The run with its cache, and the images of its data set."""
    source = require_cache(run, "Give a run of `fastcls run` or `fastcls train-head` beside its cache")
    return source, features_of_run(run)


def _features(run: Run, source: CachedRun, dataset: Dataset, *, progress: bool) -> tuple[Features, int]:
    """The rows of the images, and how many had to be forwarded."""
    root = source.cache.folder.parent
    if run.asked.get("cut"):
        cut = replace(run.spec("cut", _spec), precision=source.cache.manifest.precision)
        cache, done = extract(dataset, cut, root, progress=progress)
        if cache.manifest.fingerprint == source.cache.manifest.fingerprint:
            return Features.of(cache), done.forwarded
    return _extracted(run, source, dataset), 0


def _spec(asked: Mapping[str, Any]) -> CutSpec:
    """The cut of a run, as its record has it."""
    return CutSpec(**{**asked, "base": BaseSpec(**asked["base"])})


def _extracted(run: Run, source: CachedRun, dataset: Dataset) -> Features:
    """The rows of images that were extracted before: a run of `train-head` does not know how."""
    name = dataset.name
    served = source.cache.serving(name, dataset.origin)
    if not served.listing.samples_path.exists():
        manifest = source.cache.manifest
        raise OptionError(
            f"The images of {dataset.root} are not in the cache of {run.folder} yet. First run: fastcls "
            f"extract {dataset.root} --unlabeled --base {manifest.base} --precision {manifest.precision} "
            f"--cache {source.cache.folder.parent}, with --weights, --cut and whatever else it was made with"
        )
    return Features.of(served)


def _new(features: Features, labeled: Features) -> tuple[Features, int]:
    """Images that are not in the data set of the run, each once; and how many are."""
    is_seen = np.isin(features.digests, labeled.digests)
    _, first = np.unique(features.digests, return_index=True)
    is_first = np.isin(np.arange(len(features)), first)
    return features.take(~is_seen & is_first), int(is_seen.sum())


def _choose(source: CachedRun, new: Features, labeled: Features, count: int) -> tuple[Suggestion, ...]:
    run, task = source.run, source.run.task
    thresholds, names = run.record["thresholds"], run.record["class_names"]
    probabilities = source.probabilities(new.digests.tolist(), converts=True)
    margins = task.margins(probabilities, thresholds).min(axis=1)
    chosen = choose_to_label(new.rows, margins, labeled.rows, count)
    found = zip(chosen.places.tolist(), chosen.nearest.tolist(), chosen.similarities.tolist(), strict=True)
    return tuple(
        Suggestion(
            new.paths[place],
            ", ".join(names[label] for label in task.rank(probabilities[place], thresholds)[: task.answers]),
            float(probabilities[place].max()),
            float(margins[place]),
            ", ".join(labeled.names[nearest]),
            labeled.paths[nearest],
            similarity,
        )
        for place, nearest, similarity in found
    )


def _write(path: Path, suggestions: Sequence[Suggestion]) -> None:
    rows: list[list[object]] = [[*_COLUMNS]]
    for each in suggestions:
        numbers = {name: f"{getattr(each, name):.6f}" for name in ("confidence", "margin", "similarity")}
        rows.append([numbers.get(name, getattr(each, name)) for name in _COLUMNS])
    with files.new_path(path) as temporary, temporary.open("w", **files.CSV_TEXT) as file:
        file.write(as_csv(rows))

"""Which rows of a cache train the head and which validate it; refuses what is partial or stale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache.samples import FileState, SampleRow
from fastcls.cache.store import Cache, Rows
from fastcls.data import sources
from fastcls.data.splitter import assign_splits
from fastcls.errors import CacheError, DataError
from fastcls.specs import SplitSpec, TrainConfig


@dataclass(frozen=True)
class LabeledRows:
    """Bottlenecks and their classes.

    Attributes:
        rows: Where the bottlenecks are.
        labels: (N,) int64, indices into the class names; with several labels per image (N, C) uint8 of 0
            and 1.
    """

    rows: Rows
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Selection:
    """What a head is trained on.

    Attributes:
        class_names: Sorted; labels are indices into them.
        train: Rows to train on.
        val: Rows to validate on; None to train without validation.
        multi_label: Whether an image may have any number of classes.
    """

    class_names: tuple[str, ...]
    train: LabeledRows
    val: LabeledRows | None
    multi_label: bool = False


def select(cache: Cache, config: TrainConfig) -> Selection:
    """Choose the training and validation rows of a cache.

    Raises:
        CacheError: The cache is partial or stale, or has no validation part, and the configuration does
            not say how to proceed.
        DataError: A class has no training image.
    """
    samples = cache.samples()
    if not samples:
        raise CacheError(f"Cache {cache.folder} holds no samples. Run `fastcls extract` first")
    if not config.allow_stale:
        _require_unchanged(cache, samples)
    class_names = tuple(sorted({name for row in samples for name in row.labels}))
    samples, rows = _present(cache, samples, config)
    own, val = _divide(cache, samples, config)
    labels = _label_array(samples, class_names, multi_label=cache.multi_label)

    def take(places: list[int]) -> LabeledRows:
        return LabeledRows(rows.take(np.array(places, np.int64)), labels[places])

    _require_every_class(labels[own], class_names)
    return Selection(class_names, take(own), take(val) if val else None, cache.multi_label)


def _present(cache: Cache, samples: list[SampleRow], config: TrainConfig) -> tuple[list[SampleRow], Rows]:
    rows = cache.index().locate([row.digest for row in samples])
    failed = {failure.path for failure in cache.failures()}
    missing = [
        row.path
        for row, found in zip(samples, rows.present, strict=True)
        if not found and row.path not in failed
    ]
    if missing and not config.allow_partial:
        raise CacheError(
            f"Cache {cache.folder} is partial: {len(missing)} of {len(samples)} images have no bottleneck "
            f"yet (the first is {missing[0]!r}). Run the same `fastcls extract` again to complete it, or "
            "train on what there is with --allow-partial"
        )
    places = np.flatnonzero(rows.present)
    return [samples[place] for place in places], rows.take(places)


def _require_unchanged(cache: Cache, samples: Sequence[SampleRow]) -> None:
    report = cache.folder / "extraction.json"
    root = Path(files.read_json(report)["data"]) if report.exists() else None
    changed = [row.path for row in samples if root and _has_changed(root / row.path, row)]
    if changed:
        raise CacheError(
            f"Cache {cache.folder} is stale: {len(changed)} images have changed since their extraction "
            f"(the first is {changed[0]!r}). Run `fastcls extract` again, or train on the old ones with "
            "--allow-stale"
        )


def _has_changed(path: Path, row: SampleRow) -> bool:
    """Whether a file is there and not the one that was extracted; images that are gone do not matter."""
    if row.state == FileState():
        return False
    try:
        state = FileState.of(path)
    except OSError:
        return False
    if state == row.state:
        return False
    try:
        return sources.digest(path) != row.digest
    except OSError:  # A TFRecord file that was written anew has other records there.
        return True


def _divide(cache: Cache, samples: Sequence[SampleRow], config: TrainConfig) -> tuple[list[int], list[int]]:
    """Places of the rows to train on and to validate on."""
    own = [place for place, row in enumerate(samples) if row.split in ("train", "")]
    val = [place for place, row in enumerate(samples) if row.split == "val"]
    if config.val == 0:
        return own, []
    if config.val is None and not val:
        raise CacheError(
            f"Cache {cache.folder} has no validation part. Split the data first (`fastcls split-data`), set "
            "part of the training images aside with --val 0.2, or train without validation with --val 0"
        )
    if config.val is None:
        return own, val
    chosen = assign_splits(
        [samples[place].digest for place in own],
        [samples[place].labels for place in own],
        SplitSpec(val=config.val, test=0.0, seed=config.seed),
        groups=[samples[place].group for place in own],
    )
    sides = list(zip(own, chosen, strict=True))
    return [place for place, side in sides if side == "train"], [p for p, side in sides if side == "val"]


def _label_array(
    samples: Sequence[SampleRow], class_names: tuple[str, ...], *, multi_label: bool
) -> np.ndarray:
    index = {name: label for label, name in enumerate(class_names)}
    if not multi_label:
        return np.array([index[row.label] for row in samples], np.int64)
    targets = np.zeros((len(samples), len(class_names)), np.uint8)
    for place, row in enumerate(samples):
        targets[place, [index[name] for name in row.labels]] = 1
    return targets


def _require_every_class(labels: np.ndarray, class_names: tuple[str, ...]) -> None:
    if len(class_names) < 2:
        raise DataError(f"A classifier needs two classes or more. Received: {', '.join(class_names)}")
    counts = labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels, minlength=len(class_names))
    absent = [class_names[label] for label in np.flatnonzero(counts == 0)]
    if absent:
        raise DataError(f"No image to train on for: {', '.join(absent)}. Split the data again")

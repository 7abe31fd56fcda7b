"""Which rows of a cache train the head and which validate it; refuses what is partial or stale."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fastcls.cache.index import Rows, locate_views
from fastcls.cache.listing import Report
from fastcls.cache.samples import FileState, SampleRow
from fastcls.cache.store import Cache
from fastcls.data import image_bytes
from fastcls.data.splitter import assign_splits, group_units, require_train_part
from fastcls.errors import CacheError, DataError
from fastcls.specs import SplitSpec, TrainConfig, ViewSpec
from fastcls.tasks import ONE_LABEL, Task
from fastcls.wording import count_of


@dataclass(frozen=True)
class LabeledRows:
    """Bottlenecks and their classes.

    Attributes:
        rows: Where the bottlenecks are; the views of an image follow each other.
        labels: One per row, encoded by the task.
        views: Rows per image.
        task: What is asked of an image.
        groups: A number per image: those of the same number are identical or of one group. None where that
            is not known.
    """

    rows: Rows
    labels: np.ndarray
    views: int = 1
    task: Task = ONE_LABEL
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def images(self) -> int:
        """How many images there are: an epoch takes one view of each."""
        return len(self) // self.views


@dataclass(frozen=True)
class Selection:
    """What a head is trained on.

    Attributes:
        class_names: Sorted; labels are indices into them.
        train: Rows to train on, of each view.
        val: Rows to validate on, of plain images; None to train without validation.
        task: What is asked of an image.
        images: Those of both, by their use: "train" and "val".
        views: The views to train on.
    """

    class_names: tuple[str, ...]
    train: LabeledRows
    val: LabeledRows | None
    task: Task = ONE_LABEL
    images: Mapping[str, Sequence[SampleRow]] = field(default_factory=dict)
    views: ViewSpec = field(default_factory=ViewSpec)


def select(cache: Cache, config: TrainConfig) -> Selection:
    """Choose the training and validation rows of a cache.

    Raises:
        CacheError: The cache is partial or stale, or has no validation part, and the configuration does
            not say how to proceed.
        DataError: A class has no training image.
    """
    report = cache.listing.report()
    # In the order in which they are extracted: neighbors are neighbors in a shard, whatever a CSV's order.
    samples = sorted(cache.samples(), key=lambda row: row.path)
    if not config.allow_stale:
        _require_unchanged(cache, report.root, samples)
    class_names = tuple(sorted({name for row in samples for name in row.labels}))
    views = _views(cache, report, config)
    found = locate_views(cache.index(), samples, views)
    _require_complete(cache, samples, found.lacking, views, config)
    present = np.flatnonzero(found.lacking == 0)
    samples = [samples[place] for place in present]
    task = report.task
    own, val, labels = assign_uses(samples, class_names, config, f"Cache {cache.folder}", task)

    def take(places: list[int], count: int) -> LabeledRows:
        rows = found.take(present[places], count)
        return LabeledRows(rows, labels[places].repeat(count, axis=0), count, task)

    plain = take(val, 1) if val else None
    images = {"train": [samples[place] for place in own], "val": [samples[place] for place in val]}
    train = take(own, views.views)
    if plain is None:
        train = replace(train, groups=_groups(images["train"]))
    return Selection(class_names, train, plain, task, images, views)


def _groups(samples: Sequence[SampleRow]) -> np.ndarray:
    """A number per sample, the same for those that stay together."""
    groups = np.empty(len(samples), np.int64)
    units = group_units([row.digest for row in samples], [row.group for row in samples])
    for number, unit in enumerate(units):
        groups[unit] = number
    return groups


def _views(cache: Cache, report: Report, config: TrainConfig) -> ViewSpec:
    """The views to train on."""
    noted = report.views
    wanted = config.views or noted.views
    if wanted > noted.views:
        kind = f" --augment {noted.augment} --view-seed {noted.view_seed}" if noted.views > 1 else ""
        raise CacheError(
            f"Cache {cache.folder} has only {noted.views} of the {wanted} requested views of each image. Run "
            f"the same `fastcls extract` with --views {wanted}{kind} to add the others, or train with "
            f"--views {noted.views}"
        )
    return replace(noted, views=wanted)


def _require_complete(
    cache: Cache, samples: Sequence[SampleRow], lacking: np.ndarray, views: ViewSpec, config: TrainConfig
) -> None:
    """Refuse a cache in which images lack views that can be made, unless that is allowed."""
    failed = {failure.path for failure in cache.failures()}
    missing = [samples[place].path for place in np.flatnonzero(lacking).tolist()]
    missing = [path for path in missing if path not in failed]
    if missing and not config.allow_partial:
        raise CacheError(
            f"Cache {cache.folder} is partial: {len(missing):,} of {count_of(len(samples), 'image')} "
            f"have no bottleneck "
            f"yet{_of_views(views)} (the first is {missing[0]!r}). Run the same `fastcls extract` again to "
            "complete it, or train on the others with --allow-partial"
        )


def _of_views(views: ViewSpec) -> str:
    return f" of one of their {views.views} views" if views.views > 1 else ""


def _require_unchanged(cache: Cache, root: str, samples: Sequence[SampleRow]) -> None:
    changed = [row.path for row in samples if row.digest and _has_changed(root, row)]
    if changed:
        raise CacheError(
            f"Cache {cache.folder} is stale: {count_of(len(changed), 'image')} changed since the extraction "
            f"(the first is {changed[0]!r}). Run `fastcls extract` again, or train on the old ones with "
            "--allow-stale"
        )


def _has_changed(root: str, row: SampleRow) -> bool:
    """Whether a file is there and not the one that was extracted; images that are gone do not matter.

    A file that was young or of the future when it was extracted has a state that tells nothing: it is read.
    """
    path = os.path.join(root, row.path)  # noqa: PTH118 (10 times quicker)
    try:
        state = FileState.of(path)
    except OSError:
        return False
    if state == row.state:
        return False
    try:
        return image_bytes.digest(path) != row.digest
    except OSError:  # A TFRecord file that was written anew has other records there.
        return True


def assign_uses(
    samples: Sequence[SampleRow],
    class_names: tuple[str, ...],
    config: TrainConfig,
    source: str,
    task: Task,
) -> tuple[list[int], list[int], np.ndarray]:
    """Choose the samples to train on and to validate on, and refuse those that make no training.

    Returns:
        Places of the samples of both uses, and the labels of all: see `LabeledRows.labels`.

    Raises:
        DataError: There is no training or validation part, a class has no image to train on, or several
            labels per image do not allow to choose an epoch. `source` is what a message calls the samples.
    """
    require_train_part(source, (row.split for row in samples))
    own, val = _train_val_places(samples, config, source)
    labels = task.encode([row.labels for row in samples], class_names)
    _require_every_class(samples, labels, (own, val), class_names, task)
    task.require_measurable(labels[val])
    return own, val, labels


def _train_val_places(
    samples: Sequence[SampleRow], config: TrainConfig, source: str
) -> tuple[list[int], list[int]]:
    """Places of the samples to train on and to validate on.

    Raises:
        DataError: `source`, by which a message calls them, has no validation part, and the configuration
            does not say how to proceed.
    """
    own = [place for place, row in enumerate(samples) if row.split in ("train", "")]
    val = [place for place, row in enumerate(samples) if row.split == "val"]
    if config.val == 0:
        return own, []
    if config.val is None and not val:
        raise DataError(
            f"{source} has no validation part. Split the data first (`fastcls split-data`), set "
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


def _require_every_class(
    samples: Sequence[SampleRow],
    labels: np.ndarray,
    uses: tuple[list[int], list[int]],
    class_names: tuple[str, ...],
    task: Task,
) -> None:
    """Raise DataError where there are fewer than two classes, or one has no image to train on."""
    if len(class_names) < 2:
        raise DataError(f"A classifier needs at least two classes. Received: {', '.join(class_names)}")
    own, val = uses
    counts = task.count(labels[own], len(class_names))
    absent = [class_names[label] for label in np.flatnonzero(counts == 0)]
    if absent:
        validates = {*val}
        parts = ["val" if place in validates else row.split for place, row in enumerate(samples)]
        found = Counter(part for part, row in zip(parts, samples, strict=True) if absent[0] in row.labels)
        where = ", ".join(f"{count_of(count, 'image')} in {part}" for part, count in found.items())
        raise DataError(
            f"No images to train on for: {', '.join(absent)}. Received for {absent[0]}: "
            f"{where or 'none outside of the test part that can be read'}. Move some to the train part, "
            "remove the class, or split all images again"
        )

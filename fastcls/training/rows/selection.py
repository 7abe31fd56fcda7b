"""Which rows of a cache train the head and which validate it; refuses what is partial or stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fastcls.cache.corrections import Corrections
from fastcls.cache.index import Rows, locate_views
from fastcls.cache.listing import Report
from fastcls.cache.samples import SampleRow, SampleTable, file_states
from fastcls.cache.store import Cache
from fastcls.data import image_bytes
from fastcls.data.splitter import assign_splits, group_units, require_train_part
from fastcls.errors import CacheError, DataError
from fastcls.specs import SplitSpec, TrainConfig, ViewSpec
from fastcls.tasks import ONE_LABEL, Task
from fastcls.wording import count_of, some_of


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


def join(parts: Sequence[LabeledRows]) -> LabeledRows:
    """Rows of one cache, one part after the other; each row counts as an image."""
    rows = replace(
        parts[0].rows,
        shard=np.concatenate([part.rows.shard for part in parts]),
        row=np.concatenate([part.rows.row for part in parts]),
    )
    return LabeledRows(rows, np.concatenate([part.labels for part in parts]), 1, parts[0].task)


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
        corrections: What is other than in the table of the data set.
        corrected: That in words; "" without any.
    """

    class_names: tuple[str, ...]
    train: LabeledRows
    val: LabeledRows | None
    task: Task = ONE_LABEL
    images: Mapping[str, Sequence[SampleRow]] = field(default_factory=dict)
    views: ViewSpec = field(default_factory=ViewSpec)
    corrections: Corrections = field(default_factory=Corrections)
    corrected: str = ""


def select(cache: Cache, config: TrainConfig, corrections: Path | None = None) -> Selection:
    """Choose the training and validation rows of a cache.

    Args:
        cache: The cache.
        config: How the head is trained.
        corrections: A table of issues that a person has edited.

    Raises:
        CacheError: The cache is partial or stale, or has no validation part, and the configuration does
            not say how to proceed.
        DataError: A class has no training image, or the corrections cannot be read.
    """
    report = cache.listing.report()
    corrected = Corrections.read(corrections, report.task) if corrections else Corrections()
    listed = cache.listing.samples()
    corrected.require_known({name for labels in {*listed.labels} for name in labels})
    # In the order in which they are extracted: neighbors are neighbors in a shard, whatever a CSV's order.
    samples = _by_path(corrected.apply(listed) if corrections else listed)
    if corrections and not corrected.of.keys() & {*listed.digests.astype("U32").tolist()}:
        raise DataError(f"{corrections} corrects none of the {len(listed):,} images of {cache.listing.name}")
    if not config.allow_stale:
        _require_unchanged(cache, report.root, samples)
    class_names = tuple(sorted({name for labels in {*samples.labels} for name in labels}))
    if not class_names and corrections:
        raise DataError(f"With the corrections of {corrections} no image is left that has a class")
    if not class_names:
        raise DataError(
            f"{cache.listing.name} in cache {cache.folder} has no classes: its images are unlabeled. Choose "
            "another data set with --name, or label images and extract these"
        )
    views = _views(cache, report, config)
    found = locate_views(cache.index(), samples, views)
    _require_complete(cache, samples, found.lacking, views, config)
    present = np.flatnonzero(found.lacking == 0)
    samples = samples.take(present)
    task = report.task
    own, val, labels = assign_uses(samples, class_names, config, f"Cache {cache.folder}", task)

    def take(places: list[int], count: int) -> LabeledRows:
        rows = found.take(present[places], count)
        return LabeledRows(rows, labels[places].repeat(count, axis=0), count, task)

    plain = take(val, 1) if val else None
    images = {"train": samples.take(own), "val": samples.take(val)}
    train = take(own, views.views)
    if plain is None:
        train = replace(train, groups=unit_numbers(images["train"].digests.tolist(), images["train"].groups))
    told = corrected.told(listed) if corrections else ""
    return Selection(class_names, train, plain, task, images, views, corrected, told)


def _by_path(samples: SampleTable) -> SampleTable:
    paths = samples.paths
    order = sorted(range(len(paths)), key=paths.__getitem__)
    return samples if order == [*range(len(paths))] else samples.take(order)


def unit_numbers(keys: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """A number per sample, the same for those that stay together: (N,) int64; see `group_units`."""
    numbers = np.empty(len(keys), np.int64)
    for number, unit in enumerate(group_units(keys, groups)):
        numbers[unit] = number
    return numbers


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
    cache: Cache, samples: SampleTable, lacking: np.ndarray, views: ViewSpec, config: TrainConfig
) -> None:
    """Refuse a cache in which images lack views that can be made, unless that is allowed."""
    failed = {failure.path for failure in cache.failures()}
    missing = [samples.paths[place] for place in np.flatnonzero(lacking).tolist()]
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


def _require_unchanged(cache: Cache, root: str, samples: SampleTable) -> None:
    found = file_states(root, samples.paths)
    other = found.any(axis=1) & (found != samples.states).any(axis=1) & (samples.digests != b"")
    rows = (samples[place] for place in np.flatnonzero(other).tolist())
    changed = [row.path for row in rows if _is_other_image(root, row)]
    if changed:
        raise CacheError(
            f"Cache {cache.folder} is stale: {count_of(len(changed), 'image')} changed since the extraction "
            f"(the first is {changed[0]!r}). Run `fastcls extract` again, or train on the old ones with "
            "--allow-stale"
        )


def _is_other_image(root: str, row: SampleRow) -> bool:
    """Whether a file that is there is not the one that was extracted; images that are gone do not matter.

    A file that was young or of the future when it was extracted has a state that tells nothing: it is read.
    """
    try:
        return image_bytes.digest(image_bytes.located(root, row.path)) != row.digest
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
    table = SampleTable.of(samples)
    require_train_part(source, table.splits)
    own, val = _train_val_places(table, config, source)
    labels = task.encode(table.labels, class_names)
    _require_every_class(table, labels, (own, val), class_names, task)
    task.require_measurable(labels[val])
    return own, val, labels


def _train_val_places(samples: SampleTable, config: TrainConfig, source: str) -> tuple[list[int], list[int]]:
    """Places of the samples to train on and to validate on.

    Raises:
        DataError: `source`, by which a message calls them, has no validation part, and the configuration
            does not say how to proceed.
    """
    own = [place for place, split in enumerate(samples.splits) if split in ("train", "")]
    val = [place for place, split in enumerate(samples.splits) if split == "val"]
    if config.val == 0:
        return own, []
    if config.val is None and not val:
        raise DataError(
            f"{source} has no validation part. Split the data first (`fastcls split-data`), set "
            "part of the training images aside with --val 0.2, or train without validation with --val 0"
        )
    if config.val is None:
        return own, val
    divided = samples.take(own)
    chosen = assign_splits(
        divided.digests.astype("U32").tolist(),
        divided.labels,
        SplitSpec(val=config.val, test=0.0, seed=config.seed),
        groups=divided.groups,
    )
    sides = list(zip(own, chosen, strict=True))
    return [place for place, side in sides if side == "train"], [p for p, side in sides if side == "val"]


def _require_every_class(
    samples: SampleTable,
    labels: np.ndarray,
    uses: tuple[list[int], list[int]],
    class_names: tuple[str, ...],
    task: Task,
) -> None:
    """Raise DataError where there are fewer than two classes, or one has no image to train on."""
    if len(class_names) < 2:
        raise DataError(f"A classifier needs at least two classes. Received: {some_of(class_names)}")
    own, val = uses
    counts = task.count(labels[own], len(class_names))
    absent = [class_names[label] for label in np.flatnonzero(counts == 0)]
    if absent:
        validates = {*val}
        parts = ["val" if place in validates else row.split for place, row in enumerate(samples)]
        found = Counter(part for part, row in zip(parts, samples, strict=True) if absent[0] in row.labels)
        where = ", ".join(f"{count_of(count, 'image')} in {part}" for part, count in found.items())
        raise DataError(
            f"No images to train on for: {some_of(absent)}. Received for {absent[0]}: "
            f"{where or 'none outside of the test part that can be read'}. Move some to the train part, "
            "remove the class, or split all images again"
        )

"""What the images of a data set have in a cache, and what they lack."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np

from fastcls.cache.index import locate_views
from fastcls.cache.listing import check_name
from fastcls.cache.samples import Failure, FileState, SampleRow
from fastcls.cache.store import Cache
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.extraction.shard_tasks import Wanted
from fastcls.specs import ViewSpec


@dataclass(frozen=True)
class ViewedDataset:
    """A data set whose images are to have bottlenecks, and their views.

    Attributes:
        dataset: The images.
        views: What each image to train on is to have.
        name: What the user calls the data set; None for its own name.
    """

    dataset: Dataset
    views: ViewSpec
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)

    def served_by(self, cache: Cache) -> Cache:
        """A cache, speaking of this data set."""
        name, origin = self.name or self.dataset.name, self.dataset.origin
        return cache.serving(name, origin, is_asked=self.name is not None)

    @property
    def rows(self) -> int:
        """How many bottlenecks of one cut the data set has in all."""
        return sum(self.views.of_split(sample.split) for sample in self.dataset.samples)


@dataclass(frozen=True)
class Coverage:
    """What is known of every sample of a data set in a cache, and what it lacks.

    Attributes:
        rows: One per sample, in the data set's order; digest and state where they are known.
        missing: Images without a bottleneck of each of their views.
        failures: Images that are known to be unreadable.
        is_new: Whether `rows` differs from the table beside the shards.
    """

    rows: list[SampleRow]
    missing: list[Wanted]
    failures: list[Failure]
    is_new: bool


def find_coverage(viewed: ViewedDataset, cache: Cache) -> Coverage:
    """Find the images of a data set that lack a bottleneck of one of their views.

    An image whose file has not changed since its digest was taken is not read.

    Args:
        viewed: The images, and their views.
        cache: The cache, speaking of this data set.
    """
    dataset, views, recalled = viewed.dataset, viewed.views, cache.listing.recall()
    is_last = recalled.is_last and recalled.task is dataset.task
    known = {failure.digest: failure for failure in recalled.failures if failure.digest}
    rows, is_changed = _known_rows(dataset, recalled.samples)
    lacking = locate_views(cache.index(), rows, views).lacking
    failures, missing = [], []
    for place in np.flatnonzero(lacking):
        row = rows[place]
        if row.digest in known:
            failures.append(replace(known[row.digest], path=row.path))
        else:
            missing.append(
                Wanted(row.path, views.of_split(row.split), int(lacking[place]), digest=row.digest)
            )
    return Coverage(rows, missing, failures, is_changed or not is_last)


def count_missing(viewed: ViewedDataset, cache: Cache, coverage: Coverage) -> tuple[int, int]:
    """How many readable images lack a view, and how many views they lack in all.

    Copies are counted once. Files that may have changed are read.
    """
    root, digest = viewed.dataset.root, image_bytes.digest_or_blank
    rows = [row if row.digest else replace(row, digest=digest(root / row.path)) for row in coverage.rows]
    lacking = locate_views(cache.index(), rows, viewed.views).lacking
    unusable = {"", *(failure.digest for failure in cache.listing.recall().failures)}
    pairs = zip(rows, lacking.tolist(), strict=True)
    counts = {row.digest: count for row, count in pairs if count and row.digest not in unusable}
    return len(counts), sum(counts.values())


def _known_rows(dataset: Dataset, stored: list[SampleRow]) -> tuple[list[SampleRow], bool]:
    """A row per sample, and whether they differ from the rows beside the shards, which are used up."""
    stored.reverse()
    rows, is_changed = [], False
    names: dict[tuple[int, ...], tuple[str, ...]] = {}  # one tuple for all images of the same classes
    for sample in dataset.samples:
        # Both are sorted by path. Old rows leave memory while new ones come.
        while stored and stored[-1].path < sample.path:
            stored.pop()
            is_changed = True
        old = stored.pop() if stored and stored[-1].path == sample.path else None
        known = (old.digest, old.state) if old and _is_unchanged(dataset, old) else ()
        labels = names.setdefault(sample.labels, dataset.names_of(sample))
        row = SampleRow(sample.path, labels, sample.split, sample.group, *known)
        is_changed |= row != old
        rows.append(row)
    return rows, is_changed or bool(stored)


def _is_unchanged(dataset: Dataset, row: SampleRow) -> bool:
    """Whether a file is the one that the row's digest was taken of."""
    try:
        return row.state == FileState.of(os.path.join(dataset.root, row.path))  # noqa: PTH118 (10 times quicker)
    except OSError:
        return False

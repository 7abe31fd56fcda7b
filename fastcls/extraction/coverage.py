"""What the images of a data set have in a cache, and what they lack."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcls.cache.index import locate_views
from fastcls.cache.listing import Listing, Report, check_name
from fastcls.cache.samples import Failure, FileState, SampleRow
from fastcls.cache.store import Cache
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.data.readers.entries import SPLITS
from fastcls.extraction.shard_tasks import Wanted
from fastcls.parallel import spread
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

    def report(self, extraction: dict[str, Any]) -> Report:
        """What a cache that has all of it says of the data set.

        Args:
            extraction: Figures of the extraction.
        """
        data, root = str(self.dataset.origin), str(self.dataset.root.absolute())
        return Report(data, root, self.dataset.task, self.views, extraction)

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
        kept_split: Images of each split that the table has and the data set has not, in words; "" if `rows`
            has the splits of the data set.
        lost_split: Those of a table of the same data with another split, which these rows replace; "" if
            there is none.
    """

    rows: list[SampleRow]
    missing: list[Wanted]
    failures: list[Failure]
    is_new: bool
    kept_split: str = ""
    lost_split: str = ""


class Foreseen(Listing):
    """The tables that an extraction is going to write where nothing is to be forwarded.

    Args:
        cache: The cache, speaking of the data set.
        viewed: The images, and their views.
        rows: A row per image, with its digest.
    """

    def __init__(self, cache: Cache, viewed: ViewedDataset, rows: list[SampleRow]) -> None:
        super().__init__(cache.folder, cache.listing.name)
        known = {failure.digest: failure for failure in cache.listing.recall().failures}
        self._viewed, self._rows = viewed, rows
        self._failures = [replace(known[row.digest], path=row.path) for row in rows if row.digest in known]

    def report(self) -> Report:
        """See `Listing.report`."""
        return self._viewed.report({})

    def samples(self) -> list[SampleRow]:
        """See `Listing.samples`."""
        return self._rows

    def failures(self) -> list[Failure]:
        """See `Listing.failures`."""
        return self._failures


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
    before = {} if cache.listing.is_of_another(dataset.origin) else _splits(recalled.samples)
    dataset, kept = _with_splits(dataset, before)
    lost = any(before.get(sample.path, sample.split) != sample.split for sample in dataset.samples)
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
    told = _count(before.values())
    return Coverage(
        rows, missing, failures, is_changed or not is_last, told if kept else "", told if lost else ""
    )


def _splits(samples: list[SampleRow]) -> dict[str, str]:
    """The split of each image of a table, by path; {} for a table without splits."""
    return {row.path: row.split for row in samples} if any(row.split for row in samples) else {}


def _with_splits(dataset: Dataset, known: Mapping[str, str]) -> tuple[Dataset, bool]:
    """A data set without splits takes those of its table, if that has one for each image."""
    if dataset.splits or not all(known.get(sample.path) for sample in dataset.samples):
        return dataset, False
    samples = tuple(replace(sample, split=known[sample.path]) for sample in dataset.samples)
    return replace(dataset, samples=samples), True


def _count(splits: Iterable[str]) -> str:
    counts = Counter(splits)
    return ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])


def read_digests(viewed: ViewedDataset, coverage: Coverage | None) -> list[SampleRow]:
    """A row per sample with its digest, "" where it cannot be read; files that may have changed are read.

    Args:
        viewed: The images, and their views.
        coverage: What is known of them; None where there is no cache.
    """
    root = viewed.dataset.root
    rows = coverage.rows if coverage else _new_rows(viewed.dataset)
    unknown = (root / row.path for row in rows if not row.digest)
    digests = spread(image_bytes.digest_or_blank, unknown)
    return [row if row.digest else replace(row, digest=next(digests)) for row in rows]


def find_lacking(
    viewed: ViewedDataset, cache: Cache | None, rows: Sequence[SampleRow]
) -> list[tuple[SampleRow, int]]:
    """The rows that lack views, and how many, but those of images that are known to be unreadable.

    Args:
        viewed: The images, and their views.
        cache: The cache, speaking of this data set; None where there is none.
        rows: A row per image, with its digest.
    """
    if cache is None:
        return [(row, viewed.views.of_split(row.split)) for row in rows if row.digest]
    lacking = locate_views(cache.index(), rows, viewed.views).lacking
    unusable = {"", *(failure.digest for failure in cache.listing.recall().failures)}
    pairs = zip(rows, lacking.tolist(), strict=True)
    return [(row, count) for row, count in pairs if count and row.digest not in unusable]


def _new_rows(dataset: Dataset) -> list[SampleRow]:
    return [SampleRow(s.path, dataset.names_of(s), s.split, s.group) for s in dataset.samples]


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

"""What the images of a data set have in a cache, and what they lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from fastcls.cache.index import locate_views
from fastcls.cache.listing import Listing, Report, check_name
from fastcls.cache.samples import Failure, SampleRow, SampleTable, file_states
from fastcls.cache.store import Cache
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset, Sample
from fastcls.data.readers.entries import SPLITS
from fastcls.errors import OptionError
from fastcls.extraction.shard_tasks import Wanted
from fastcls.garbage import uncollected
from fastcls.parallel import spread
from fastcls.specs import ViewSpec

_BLOCK = 1 << 16  # files that are looked at before their states are compared


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
        if self.name is not None and not self.dataset.class_names:
            self._require_unlabeled(Listing(cache.folder, name))
        return cache.serving(name, origin, is_asked=self.name is not None)

    def _require_unlabeled(self, listing: Listing) -> None:
        """Refuse to replace a table that has classes by one without."""
        if listing.report_path.exists() and listing.has_classes:
            raise OptionError(
                f"{listing.samples_path} has the classes of its images, and {self.dataset.given} has none. "
                "Give the images without classes another --name"
            )

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

    rows: SampleTable
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

    def __init__(self, cache: Cache, viewed: ViewedDataset, rows: SampleTable) -> None:
        super().__init__(cache.folder, cache.listing.name)
        known = {failure.digest: failure for failure in cache.listing.recall_failures()}
        self._viewed, self._rows = viewed, rows
        lines = rows if known else ()
        self._failures = [replace(known[row.digest], path=row.path) for row in lines if row.digest in known]

    def report(self) -> Report:
        """See `Listing.report`."""
        return self._viewed.report({})

    def samples(self) -> SampleTable:
        """See `Listing.samples`."""
        return self._rows

    def failures(self) -> list[Failure]:
        """See `Listing.failures`."""
        return self._failures


@uncollected()
def find_coverage(viewed: ViewedDataset, cache: Cache) -> Coverage:
    """Find the images of a data set that lack a bottleneck of one of their views.

    An image whose file has not changed since its digest was taken is not read.

    Args:
        viewed: The images, and their views.
        cache: The cache, speaking of this data set.
    """
    dataset, views = viewed.dataset, viewed.views
    paths = [sample.path for sample in dataset.samples]
    recalled = cache.listing.recall(paths)
    is_last = recalled.is_last and recalled.task is dataset.task
    known = {failure.digest: failure for failure in recalled.failures if failure.digest}
    old, places = recalled.samples, _places(paths, recalled.samples.paths)
    is_split = any(old.splits) and not cache.listing.is_of_another(dataset.origin)
    splits = _choose_splits(dataset.samples, old, places) if is_split else _Splits.of(dataset.samples)
    rows = _known_rows(dataset, paths, splits.names, old, places)
    is_changed = rows != old
    told = _count(old.splits)
    del old, recalled, places  # before the index comes into memory
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
    kept, lost = (told if has else "" for has in (splits.are_kept, splits.are_lost))
    return Coverage(rows, missing, failures, is_changed or not is_last, kept, lost)


def _places(paths: list[str], known: list[str]) -> np.ndarray:
    """Where each path is among others, both sorted: (N,) int64, -1 where it is not."""
    if paths == known:
        return np.arange(len(paths))
    places = np.full(len(paths), -1)
    at = 0
    for place, path in enumerate(paths):
        while at < len(known) and known[at] < path:
            at += 1
        if at < len(known) and known[at] == path:
            places[place] = at
    return places


class _Splits(NamedTuple):
    """The split of each sample, and what becomes of those of an earlier table."""

    names: list[str]
    are_kept: bool = False
    are_lost: bool = False

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> _Splits:
        return cls([sample.split for sample in samples])


def _choose_splits(samples: Sequence[Sample], old: SampleTable, places: np.ndarray) -> _Splits:
    """Samples without splits take those of their table, if that has one for each image."""
    own = _Splits.of(samples)
    before = [old.splits[at] if at >= 0 else None for at in places.tolist()]
    if not any(own.names) and all(before):
        return _Splits([split or "" for split in before], are_kept=True)
    pairs = zip(before, own.names, strict=True)
    return own._replace(are_lost=any(was is not None and was != split for was, split in pairs))


def _count(splits: Iterable[str]) -> str:
    counts = Counter(splits)
    return ", ".join(f"{split} {counts[split]}" for split in SPLITS if counts[split])


def read_digests(viewed: ViewedDataset, coverage: Coverage | None) -> SampleTable:
    """A row per sample with its digest, "" where it cannot be read; files that may have changed are read.

    Args:
        viewed: The images, and their views.
        coverage: What is known of them; None where there is no cache.
    """
    dataset = viewed.dataset
    rows = coverage.rows if coverage else _new_rows(dataset, [sample.path for sample in dataset.samples])
    unknown = np.flatnonzero(rows.digests == b"")
    if not len(unknown):
        return rows
    read = rows.copy()
    paths = (image_bytes.located(dataset.root, rows.paths[place]) for place in unknown.tolist())
    for place, digest in zip(unknown.tolist(), spread(image_bytes.digest_or_blank, paths), strict=True):
        read.digests[place] = digest.encode()
    return read


def find_lacking(
    viewed: ViewedDataset, cache: Cache | None, rows: SampleTable
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
    unusable = {"", *(failure.digest for failure in cache.listing.recall_failures())}
    pairs = ((rows[place], int(lacking[place])) for place in np.flatnonzero(lacking).tolist())
    return [(row, count) for row, count in pairs if row.digest not in unusable]


def _new_rows(dataset: Dataset, paths: list[str]) -> SampleTable:
    names: dict[tuple[int, ...], tuple[str, ...]] = {}  # one tuple for all images of the same classes
    for sample in dataset.samples:
        if sample.labels not in names:
            names[sample.labels] = dataset.names_of(sample)
    labels = [names[sample.labels] for sample in dataset.samples]
    splits, groups = ([getattr(s, name) for s in dataset.samples] for name in ("split", "group"))
    return SampleTable(paths, labels, splits, groups)


def _known_rows(
    dataset: Dataset, paths: list[str], splits: list[str], old: SampleTable, places: np.ndarray
) -> SampleTable:
    """A row per sample, with the digests of those whose files have not changed since."""
    rows = _new_rows(dataset, paths)
    rows.splits = splits
    known = np.flatnonzero(places >= 0)
    for start in range(0, len(known), _BLOCK):
        some = known[start : start + _BLOCK]
        states = file_states(dataset.root, [paths[place] for place in some.tolist()])
        # A state of zeros is none that can be relied on.
        same = some[(states == old.states[places[some]]).all(axis=1) & states.any(axis=1)]
        rows.states[same], rows.digests[same] = old.states[places[same]], old.digests[places[same]]
    return rows

"""What caches there are, and what is in one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import inventory
from fastcls.cache import mirror
from fastcls.cache.kept_index import shard_states
from fastcls.cache.listing import listings
from fastcls.cache.manifest import Manifest
from fastcls.cache.shard import maker_of
from fastcls.cache.shard_copies import count_rows
from fastcls.cache.store import Cache
from fastcls.caching.contents import Contents, open_cache, refuse_run
from fastcls.caching.runs_of import find_runs
from fastcls.errors import CacheError, FastclsError, spoken
from fastcls.files import PathLike
from fastcls.inventory import Entry
from fastcls.sizes import folder_size


@dataclass(frozen=True)
class CacheSummary:
    """A cache in a list.

    Attributes:
        entry: State, size, date and images by data set, as `fastcls runs` has them.
        manifest: What its bottlenecks are; None where that is damaged.
        shards: How many there are.
        rows: Bottlenecks in them; those of shards that cannot be opened are not counted.
    """

    entry: Entry
    manifest: Manifest | None
    shards: int
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        entry, known = self.entry, self.manifest
        told = {} if known is None else {name: getattr(known, name) for name in _TOLD}
        figures = {"state": entry.state, "problem": entry.problem, "bytes": entry.bytes, "date": entry.date}
        held = {"shards": self.shards, "rows": self.rows, "images": dict(entry.images)}
        return {"path": spoken(entry.path), **figures, **held, **told}


_TOLD = ("fingerprint", "base", "weights", "layer", "pool", "shape", "dtype", "precision")


@dataclass(frozen=True)
class HeldDataSet:
    """A data set in a cache.

    Attributes:
        name: Its name.
        data: What it was read from.
        images: Lines of its table.
        rows: Images that have a bottleneck.
        failures: Images that could not be read.
        views: Views of each image to train on.
        written: When its table was written, in UTC.
        problem: What is wrong with its tables; "" for nothing.
    """

    name: str
    data: str = ""
    images: int = 0
    rows: int = 0
    failures: int = 0
    views: int = 1
    written: str = ""
    problem: str = ""


@dataclass(frozen=True)
class CacheInfo:
    """What is in a cache.

    Attributes:
        folder: The cache.
        manifest: What its bottlenecks are.
        data_sets: The data sets that it serves.
        shards: How many there are.
        rows: Bottlenecks in whole shards.
        unlisted: Those that are no plain row of any image in a table: views, and rows of removed images.
        bytes: Size of all files.
        shard_bytes: Of the shards.
        engines: Names of the folders of converted trunks.
        makers: What computed rows, with the number of its shards: an engine, its version, features of the
            CPU. Old shards do not tell, nor do those that are only in a store.
        runs: Folders of the runs that were trained on it, of those that were looked at.
        others: Files that are no part of a cache.
        mirror: What this machine keeps of a cache at a URL; None for a folder.
        mirror_bytes: Its size.
    """

    folder: Path
    manifest: Manifest
    data_sets: tuple[HeldDataSet, ...]
    shards: int
    rows: int
    unlisted: int
    bytes: int
    shard_bytes: int
    engines: tuple[str, ...] = ()
    makers: Mapping[str, int] = field(default_factory=dict)
    runs: tuple[Path, ...] = ()
    others: tuple[Path, ...] = field(default=())
    mirror: Path | None = None
    mirror_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        values: dict[str, Any] = asdict(self)
        paths: Mapping[str, Sequence[Path]] = {"runs": self.runs, "others": self.others}
        told = {"folder": spoken(self.folder), "mirror": str(self.mirror) if self.mirror else None}
        return {**values, **told} | {name: [str(path) for path in known] for name, known in paths.items()}


def list_caches(folder: PathLike = ".") -> Iterator[CacheSummary]:
    """The caches below a folder, or the one that it is, in the order of their paths.

    Args:
        folder: Hidden folders and links in it are not entered.

    Raises:
        OptionError: There is no such folder, or it is a run.
    """
    refuse_run(folder)
    for entry in inventory.find(folder):
        if entry.kind == "cache":
            yield _summary(entry)


def _summary(entry: Entry) -> CacheSummary:
    manifest: Manifest | None = None
    with contextlib.suppress(FastclsError, OSError):
        manifest = Cache(entry.path).manifest
    if manifest and mirror.url_of(entry.path):
        index = Cache(entry.path).index(warn=False)
        return CacheSummary(entry, manifest, len(index.shards), len(index))
    try:
        shards, rows = Contents.of(entry.path).shards, 0
    except OSError as error:  # the others are listed all the same
        problem = f"{spoken(error.filename)}: {error.strerror}"
        return CacheSummary(replace(entry, state=inventory.DAMAGED, problem=problem), manifest, 0, 0)
    for path in shards:
        with contextlib.suppress(CacheError, OSError):
            rows += count_rows(path)
    return CacheSummary(entry, manifest, len(shards), rows)


def cache_info(cache: Cache | PathLike, *, runs: Sequence[PathLike] = ()) -> CacheInfo:
    """What is in a cache.

    Args:
        cache: The cache, or the folder of one.
        runs: Folders below which to look for runs that were trained on it.

    Raises:
        CacheError: There is none, or its manifest is damaged.
    """
    opened = open_cache(cache)
    contents, index = Contents.of(opened.folder), opened.index()
    shards = shard_states(opened.shards_folder)  # of a mirror, those of the store
    is_mirror = mirror.url_of(opened.folder) is not None
    listed, data_sets = [np.empty(0, np.int64)], []
    for listing in listings(opened.folder):
        try:
            report, samples = listing.report(), listing.samples()
        except CacheError as error:
            data_sets.append(HeldDataSet(listing.name, problem=str(error)))
            continue
        found = index.locate(samples.digests)
        listed.append((found.shard[found.present].astype(np.int64) << 32) | found.row[found.present])
        counts = len(samples), int(found.present.sum()), report.failures.lines, report.views.views
        data_sets.append(HeldDataSet(listing.name, report.data, *counts, report.written))
    return CacheInfo(
        opened.folder,
        opened.manifest,
        tuple(data_sets),
        shards=len(shards),
        rows=len(index),
        unlisted=len(index) - len(np.unique(np.concatenate(listed))),
        bytes=mirror.size(opened.folder),
        shard_bytes=sum(state.size for state in shards),
        engines=tuple(path.name for path in contents.engines),
        makers=_makers(opened.shards_folder),
        runs=tuple(run.folder for run in find_runs(runs).of(opened.manifest.fingerprint)),
        others=() if is_mirror else contents.others,
        mirror=opened.folder if is_mirror else None,
        mirror_bytes=folder_size(opened.folder) if is_mirror else 0,
    )


def _makers(shards: Path) -> dict[str, int]:
    found = Counter(map(maker_of, shards.glob("[!.]*.h5")))
    return {maker: count for maker, count in sorted(found.items()) if maker}

"""What the files of a cache are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fastcls import files
from fastcls.cache import checked_files, kept_index, mirror
from fastcls.cache.store import Cache, is_cache, no_cache
from fastcls.errors import CacheError, OptionError, spoken
from fastcls.files import PathLike
from fastcls.runs import Run

MANIFEST = "manifest.json"
BOARD = "tasks"  # a folder where machines say what they do that extract together
BEGUN = ".gc-begun"  # digests of the rows that a collection removes, until it has
_OWN = {MANIFEST, kept_index.FILE, BEGUN, checked_files.FILE, "trunk.keras", "tail.keras"}
_PASSING = {".lease", ".planning", ".mirror.json"}  # locks, and what is known of a store
_PASSING_FOLDERS = {BOARD, "landing"}


@dataclass(frozen=True)
class Contents:
    """The files of a cache, by what they are.

    Attributes:
        folder: The cache.
        shards: Its shards.
        names: Names of its data sets.
        engines: Folders of trunks as engines load them.
        leftovers: Temporary folders of processes that were killed, or that are still writing.
        others: Files that are no part of a cache: nobody reads them.
    """

    folder: Path
    shards: tuple[Path, ...]
    names: tuple[str, ...]
    engines: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    others: tuple[Path, ...]

    @classmethod
    def of(cls, folder: Path) -> Contents:
        """Look at a cache; no file is opened."""
        found: dict[str, list[Path]] = {kind: [] for kind in ("shard", "engine", "leftover", "other")}
        names: set[str] = set()
        for path in _entries(folder):
            kind = _kind(path, folder)
            if kind == "table":
                names.add(path.stem)
            elif kind in found:
                found[kind].append(path)
        shards, engines, leftovers, others = (tuple(sorted(paths)) for paths in found.values())
        return cls(folder, shards, tuple(sorted(names)), engines, leftovers, others)


def _entries(folder: Path) -> Iterator[Path]:
    """The files of a cache, and those of its folders that are looked at as a whole."""
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            is_whole = _kind(path, folder) in ("leftover", "engine")
            if is_whole or name in names:
                yield path
            if is_whole and name in folders:
                folders.remove(name)


def _kind(path: Path, folder: Path) -> str:
    if path.name.startswith(files.TEMPORARY):
        return "leftover"
    if path.parent == folder:
        if path.is_dir():
            return "engine" if any(path.glob("trunk.*")) or (path / checked_files.FILE).exists() else ""
        return "own" if path.name in _OWN | _PASSING else "other"
    place = path.relative_to(folder).parent.as_posix()
    if place.partition("/")[0] in _PASSING_FOLDERS:
        return "own"
    if place == "shards" and path.suffix == ".h5" and not path.name.startswith("."):
        return "shard"
    is_table = (place, path.suffix) in (("samples", ".csv"), ("samples", ".json"), ("failures", ".csv"))
    return "table" if is_table and not path.name.startswith(".") else "other"


def open_cache(cache: Cache | PathLike, name: str | None = None) -> Cache:
    """A cache itself, or that of a path or URL.

    Raises:
        CacheError: There is none, or no data set of that name.
        OptionError: It is a run, or no path.
    """
    refuse_run(cache)
    return Cache.of(cache, name)


def refuse_run(place: Cache | PathLike) -> None:
    """Refuse a run in place of a cache.

    Raises:
        OptionError: It is a run; the message names its cache.
    """
    run: Run | None = None
    if isinstance(place, (str, Path)) and not mirror.is_url(place):
        with contextlib.suppress(OSError):  # it may not be read, which whoever opens it says
            run = Run.of(Path(place))
    if run:
        known = run.cache_folders
        there = [spoken(folder) for folder in known if _is_cache(folder)]
        remedy = f"Give its cache: {there[0]}" if there else "Its cache is no longer where it was"
        was = f": {spoken(known[-1])}" if known and not there else ""
        raise OptionError(f"A cache is needed, and {place} is a run. {remedy}{was}")


def cache_folders_at(path: Cache | PathLike) -> list[Path]:
    """The folder of a cache, damaged or not; or all caches directly under a folder.

    Raises:
        CacheError: There is none.
        OptionError: It is a run, or no path.
    """
    if isinstance(path, Cache):
        return [path.folder]
    refuse_run(path)
    place = mirror.opened(path, "cache", "a Cache")
    if _is_cache(place):
        return [place]
    found = [child for child in sorted(place.iterdir()) if _is_cache(child)] if place.is_dir() else []
    if not found:
        raise no_cache(place)
    return found


def _is_cache(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with contextlib.suppress(CacheError):
        return is_cache({entry.name for entry in folder.iterdir()}) or bool(Cache(folder))
    return False

"""Read every byte of a cache that has a meaning, and name what is damaged."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fastcls.cache import checked_files, kept_index, mirror, remote_shards, shard
from fastcls.cache.index import locate_views
from fastcls.cache.listing import Listing
from fastcls.cache.manifest import Manifest
from fastcls.cache.shard import ForeignShardError
from fastcls.cache.shard_copies import row_form, sound_rows
from fastcls.cache.store import Cache
from fastcls.caching.contents import MANIFEST, Contents, cache_folders_at
from fastcls.errors import CacheError, spoken
from fastcls.files import PathLike
from fastcls.parallel import ahead
from fastcls.sizes import folder_size
from fastcls.wording import count_of

# While one waits for the disk, others compute checksums.
_THREADS = 4
REPAIR = "fastcls cache repair keeps its other rows; the same fastcls extract makes those again"
RECREATE = "The same fastcls extract makes it again"
FOREIGN = "Move it to the cache that it belongs to, or delete it"
RENEWED = "It is made again by itself"
FORWARD = "The same fastcls extract forwards these"
REMOVE = "Remove this object; the same fastcls extract makes again what it held"
RETRY = "fastcls cache repair removes it; the same fastcls extract tries these images again"


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written.

    Attributes:
        path: The file.
        kind: What it is: "manifest", "model", "engine", "table", "failures", "index", "shard" or "foreign";
            "rows" of a table whose images lack bottlenecks.
        reason: What is wrong with it.
        remedy: What to do.
    """

    path: Path
    kind: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return spoken(f"{self.path}: {self.reason}. {self.remedy}")


@dataclass(frozen=True)
class Verified:
    """What was found in a cache.

    Attributes:
        folder: The cache.
        files: How many files were read.
        bytes: Their size.
        rows: Bottlenecks that match their checksums.
        damages: The files that are damaged or missing.
        others: Files that are no part of a cache: they are not checked.
    """

    folder: Path
    files: int
    bytes: int
    rows: int
    damages: tuple[Damage, ...]
    others: tuple[Path, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages


@dataclass(frozen=True)
class _Looked:
    """What was found in a file."""

    path: Path
    bytes: int = 0
    rows: int = 0
    damage: Damage | None = None


def verify_cache(cache: Cache | PathLike, *, progress: bool = False) -> list[Verified]:
    """Read all files of a cache, and compare them with their checksums.

    These are those of each row and of the digests of a shard, and the digests of models, engine files and
    tables. What can be changed without being noticed has no meaning, such as a space in a JSON file.

    Args:
        cache: The cache, or a folder of several; of a URL, all files are fetched to be read.
        progress: Show a bar on stderr.

    Returns:
        What was found in each.

    Raises:
        CacheError: There is no cache.
    """
    shard.forget_layouts()
    if mirror.is_url(cache):
        with remote_shards.copied(str(cache)) as folder:
            return [_as_stored(_verify(each, progress=progress)) for each in cache_folders_at(folder)]
    return [_verify(folder, progress=progress) for folder in cache_folders_at(cache)]


def _as_stored(found: Verified) -> Verified:
    """The same with what to do about objects of a store, where `fastcls cache repair` removes none."""
    damages = (
        replace(each, remedy=REMOVE) if each.kind in ("shard", "failures") else each for each in found.damages
    )
    return replace(found, damages=tuple(damages))


def _verify(folder: Path, *, progress: bool) -> Verified:
    contents, damage = Contents.of(folder), _damage_of_manifest(folder)
    manifest = None if damage else Cache(folder).manifest
    looked = [_Looked(folder / MANIFEST, _size(folder / MANIFEST), damage=damage)]
    with tqdm(
        total=folder_size(folder), unit="B", unit_scale=True, desc="verify", disable=not progress
    ) as bar:
        for each in _looked_at(contents, manifest):
            looked.append(each)
            bar.update(each.bytes)
    damages = tuple(each.damage for each in looked if each.damage) + tuple(_lacking(folder, contents.names))
    sizes, rows = sum(each.bytes for each in looked), sum(each.rows for each in looked)
    return Verified(folder, len({each.path for each in looked}), sizes, rows, damages, contents.others)


def _looked_at(contents: Contents, manifest: Manifest | None) -> Iterator[_Looked]:
    yield from _models(contents.folder, manifest)
    yield from _index(contents.folder, manifest)
    for engine in contents.engines:
        yield from _engine(engine)
    for name in contents.names:
        yield from _tables(Listing(contents.folder, name))
    shards = functools.partial(_shard, manifest)
    yield from ahead(shards, contents.shards, threads=_THREADS, depth=2 * _THREADS)


def _lacking(folder: Path, names: Sequence[str]) -> Iterator[Damage]:
    """The data sets whose images do not all have their rows: a shard that is gone leaves no other trace."""
    with contextlib.suppress(CacheError, OSError):
        index = Cache(folder).index(warn=False, keep=False)
        for listing in (Listing(folder, name) for name in names):
            with contextlib.suppress(CacheError, OSError):
                samples, failed = listing.samples(), {failure.path for failure in listing.failures()}
                lacking = locate_views(index, samples, listing.report().views).lacking
                rows = sum(
                    lacking[place] for place in np.flatnonzero(lacking) if samples.paths[place] not in failed
                )
                if rows:
                    fact = f"{count_of(int(rows), 'row')} of its images are in no whole shard"
                    yield Damage(listing.samples_path, "rows", fact, FORWARD)


def _damage_of_manifest(folder: Path) -> Damage | None:
    try:
        Cache(folder)
    except (CacheError, OSError) as error:
        return Damage(folder / MANIFEST, "manifest", _fact(error, folder / MANIFEST), RECREATE)
    return None


def _models(folder: Path, manifest: Manifest | None) -> Iterator[_Looked]:
    known = [folder / name for name in ("trunk.keras", "tail.keras")]
    wanted = known if manifest is None else known[: 2 if manifest.tail_digest else 1]
    yield _digests(folder, known, "" if manifest is None else manifest.fingerprint)
    for path in wanted:
        if manifest or path.exists():
            yield _checked(path, "model")


def _index(folder: Path, manifest: Manifest | None) -> Iterator[_Looked]:
    path = folder / kept_index.FILE
    if manifest and path.exists():
        reason = kept_index.damage(path, manifest.fingerprint)
        yield _Looked(path, _size(path), damage=Damage(path, "index", reason, RENEWED) if reason else None)


def _engine(folder: Path) -> Iterator[_Looked]:
    present = [path for path in sorted(folder.iterdir()) if path.name != checked_files.FILE]
    yield _digests(folder, present, "")
    listed = _listed(folder)
    for path in sorted({*present, *(folder / name for name in listed)}):
        yield _checked(path, "engine")


def _digests(folder: Path, known: list[Path], of: str) -> _Looked:
    """The file of digests itself."""
    path, kind = folder / checked_files.FILE, "model" if of else "engine"
    reason = ""
    try:
        belongs = checked_files.read_digests(folder)["of"]
        if of and belongs != of:
            reason = "it is of another cache"
    except FileNotFoundError:
        reason = "it is missing" if any(each.exists() for each in known) else ""
    except (ValueError, OSError) as error:
        reason = f"it is damaged: {error}"
    return _Looked(path, _size(path), damage=Damage(path, kind, reason, RECREATE) if reason else None)


def _listed(folder: Path) -> list[str]:
    try:
        return [*checked_files.read_digests(folder)["files"]]
    except (ValueError, OSError):
        return []


def _checked(path: Path, kind: str) -> _Looked:
    reason = _of_disk(lambda: checked_files.damage(path))
    text = reason.removeprefix(f"{path} ")
    return _Looked(path, _size(path), damage=Damage(path, kind, f"it {text}", RECREATE) if reason else None)


def _tables(listing: Listing) -> Iterator[_Looked]:
    yield _table(listing.report_path, "table", listing.report, RECREATE)
    yield _table(listing.samples_path, "table", listing.samples, RECREATE)
    if listing.failures_path.exists():
        yield _table(listing.failures_path, "failures", listing.failures, RETRY)


def _table(path: Path, kind: str, read: Callable[[], object], remedy: str) -> _Looked:
    try:
        read()
    except (CacheError, OSError) as error:
        return _Looked(path, _size(path), damage=Damage(path, kind, _fact(error, path), remedy))
    return _Looked(path, _size(path))


def _shard(manifest: Manifest | None, path: Path) -> _Looked:
    try:
        shard.read_digests(path, manifest.fingerprint if manifest else shard.fingerprint_of(path))
        if manifest and row_form(path) != (manifest.shape, manifest.dtype):
            raise ForeignShardError(f"{path} has rows of another shape or type than the cache")
        sound = sound_rows(path)
        lost = int((~sound).sum())
        if lost:
            raise CacheError(f"the checksums of {lost:,} of {count_of(len(sound), 'row')} do not match")
        shard.read_quality(path)
    except ForeignShardError as error:
        return _Looked(path, _size(path), damage=Damage(path, "foreign", _fact(error, path), FOREIGN))
    except (CacheError, OSError) as error:
        return _Looked(path, _size(path), damage=Damage(path, "shard", _fact(error, path), REPAIR))
    return _Looked(path, _size(path), len(sound))


def _of_disk(look: Callable[[], str]) -> str:
    try:
        return look()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _fact(error: Exception, path: Path) -> str:
    """An error without its remedy and the path, which are told beside it."""
    if isinstance(error, OSError):
        return f"it cannot be read: {error.strerror or error}"
    told = str(error).replace(spoken(path), "\0")
    fact = told.replace(str(path), "\0").split(". ")[0]  # a path may hold such a stop itself
    return fact.removeprefix("Shard ").replace("\0 ", "it ", 1).replace("\0", str(path))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

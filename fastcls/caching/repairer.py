"""Remove what is damaged in a cache, and keep every row that is whole."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache import mirror, shard
from fastcls.cache.lease import Leases
from fastcls.cache.shard_copies import copy_rows, sound_rows
from fastcls.cache.store import Cache
from fastcls.caching.contents import cache_folders_at
from fastcls.caching.verifier import Damage, Verified, verify_cache
from fastcls.errors import CacheError, OptionError
from fastcls.files import PathLike
from fastcls.wording import count_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repair:
    """What became of a damaged file.

    Attributes:
        damage: What was wrong.
        removed: Whether it was removed.
        kept: Rows of a shard that are whole, and were written to a new one.
        lost: Rows that are to be made again; None where nobody knows how many there were.
    """

    damage: Damage
    removed: bool
    kept: int = 0
    lost: int | None = 0

    def __str__(self) -> str:
        if self.damage.kind != "shard":
            return f"{'Removed' if self.removed else 'Left'} {self.damage}"
        lost = "an unknown number of rows" if self.lost is None else count_of(self.lost, "row")
        return f"Removed {self.damage.path} ({self.damage.reason}): {self.kept:,} kept, {lost} to make again"


@dataclass(frozen=True)
class Repaired:
    """What became of a cache.

    Attributes:
        found: What was found damaged.
        repairs: What became of each damaged file.
    """

    found: Verified
    repairs: tuple[Repair, ...]

    @property
    def left(self) -> tuple[Damage, ...]:
        """Damages that only the same extraction, or a person, can repair."""
        return tuple(each.damage for each in self.repairs if not each.removed)


def repair_cache(cache: Cache | PathLike, *, progress: bool = False) -> list[Repaired]:
    """Remove damaged shards, models, engine files and tables of failures; the rest of their rows are kept.

    The rows of a damaged shard that match their checksums are written to a new one first. What was removed
    is made again by the same extraction: only the images whose rows are lost are forwarded. A damaged table
    of samples or manifest is left to the extraction, which reads what it can of it.

    Args:
        cache: The cache, or a folder of several.
        progress: Show a bar on stderr.

    Returns:
        What became of each cache.

    Raises:
        CacheError: There is no cache.
        OptionError: It is at a URL.
        OSError: It cannot be written; nothing that is whole is lost.
    """
    folders = cache_folders_at(cache)
    for folder in folders:
        if mirror.url_of(folder):
            raise OptionError(
                f"{folder} is at a URL, where nothing is removed. Remove the damaged objects there that "
                "`fastcls cache verify` names, and run the same `fastcls extract` again"
            )
    done = []
    for folder in folders:
        with Leases() as leases:
            leases.take([folder])  # first: another process may repair it, or make again what is damaged
            (found,) = verify_cache(folder, progress=progress)
            damages = [damage for damage in found.damages if damage.kind != "rows"]  # the extraction's affair
            done.append(Repaired(found, tuple(_repair(each, folder) for each in damages)))
    return done


def _repair(damage: Damage, folder: Path) -> Repair:
    return _REPAIRS.get(damage.kind, _leave)(damage, folder)


def _leave(damage: Damage, folder: Path) -> Repair:
    return Repair(damage, removed=False)


def _remove_file(damage: Damage, folder: Path) -> Repair:
    if not damage.path.exists():
        return _leave(damage, folder)
    damage.path.unlink()
    return Repair(damage, removed=True)


def _remove_engine(damage: Damage, folder: Path) -> Repair:
    """Remove the whole folder: its files are made together."""
    shutil.rmtree(damage.path.parent, ignore_errors=True)
    return Repair(damage, removed=True)


def _salvage(damage: Damage, folder: Path) -> Repair:
    """Put the whole rows of a shard into a new one, and only then remove it."""
    path = damage.path
    total: int | None = None
    made, kept = None, np.empty(0, np.int64)
    with contextlib.suppress(CacheError):
        fingerprint = Cache(folder).manifest.fingerprint
        total = len(shard.read_digests(path, fingerprint))
        kept = np.flatnonzero(sound_rows(path))
        if len(kept):
            made = copy_rows(path, fingerprint, kept, path.parent)
    if made != path:
        path.unlink()
        files.sync(path.parent)
    return Repair(damage, removed=True, kept=len(kept), lost=None if total is None else total - len(kept))


_REPAIRS: dict[str, Callable[[Damage, Path], Repair]] = {
    "shard": _salvage,
    "model": _remove_file,
    "engine": _remove_engine,
    "failures": _remove_file,
    "index": _remove_file,
}

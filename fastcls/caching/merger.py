"""Bring the rows and tables of caches of one fingerprint together in one of them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache import mirror, shard
from fastcls.cache.index import Index
from fastcls.cache.lease import Leases
from fastcls.cache.listing import Listing, Report, listings
from fastcls.cache.samples import SampleTable
from fastcls.cache.shard_copies import content_name, copy_rows, sound_rows
from fastcls.cache.store import Cache
from fastcls.caching.contents import open_cache
from fastcls.errors import CacheError, OptionError
from fastcls.extraction.changes import differences
from fastcls.files import PathLike
from fastcls.records import as_json

_SUFFIX = 6  # letters that tell apart two data sets of one name
logger = logging.getLogger(__name__)


@dataclass
class Merged:
    """What a cache got from another one.

    Attributes:
        source: The other cache.
        rows: Bottlenecks that are new.
        shards: Shards that they came in.
        known: Bottlenecks that were there already.
        damaged: Bottlenecks that were left behind, as they do not match their checksums.
        names: Data sets that are new: their names here by their names there.
    """

    source: Path
    rows: int = 0
    shards: int = 0
    known: int = 0
    damaged: int = 0
    names: dict[str, str] = field(default_factory=dict)


def merge_caches(into: Cache | PathLike, sources: Sequence[Cache | PathLike]) -> list[Merged]:
    """Add the rows and data sets of other caches to one of the same fingerprint; those are not changed.

    A shard whose rows are all new gets a second place by a hard link, or a copy on another disk; of others
    only the new rows are written. A data set of the same name is the same one if paths, classes, splits and
    digests are; else it comes along under a longer name.

    Args:
        into: The cache that gets them, or the folder of one.
        sources: The others.

    Returns:
        What it got from each.

    Raises:
        CacheError: One cannot be read.
        OptionError: They have different fingerprints; nothing is changed then.
        OSError: It cannot be written. The same call goes on.
    """
    if isinstance(sources, (str, Path, Cache)):
        sources = [sources]
    target, others = open_cache(into), [open_cache(source) for source in sources]
    for other in others:
        _require_same(target, other)
    with Leases() as leases:
        leases.take([target.folder])
        target.deliver()
        done = [_merge(target, other) for other in others]
        mirror.push(target.folder, tables=True)
        return done


def _require_same(target: Cache, other: Cache) -> None:
    if target.folder.samefile(other.folder):
        raise OptionError(f"{other.folder} cannot be merged into itself. Give another cache")
    if target.manifest.fingerprint != other.manifest.fingerprint:
        old, new = (as_json(asdict(cache.manifest)) for cache in (other, target))
        told = "; ".join(differences(old, new)) or "their fingerprints"
        raise OptionError(
            f"{other.folder} has other bottlenecks than {target.folder}: they differ in {told}. Extract with "
            "the same base, cut and precision on all machines"
        )


def _merge(target: Cache, other: Cache) -> Merged:
    done = Merged(other.folder)
    files.make_folder(target.landing_folder)
    there, here = other.index(keep=False), target.index()
    for number, path in enumerate(there.shards):
        _merge_shard(target, path, number, there, here, done)
    for listing in listings(other.folder):
        _merge_listing(target, listing, done)
    return done


def _merge_shard(target: Cache, path: Path, number: int, there: Index, here: Index, done: Merged) -> None:
    fingerprint = target.manifest.fingerprint
    digests = shard.read_digests(path, fingerprint)
    own = there.locate(digests)
    is_first = (own.shard == number) & (own.row == np.arange(len(digests)))  # of rows that are there twice
    wanted = is_first & ~here.locate(digests).present
    sound = _sound_rows(path, len(digests)) if wanted.any() else wanted
    places = np.flatnonzero(wanted & sound)
    done.known += int((is_first & ~wanted).sum())
    done.damaged += int((wanted & ~sound).sum())
    if len(places) == len(digests):
        made = target.landing_folder / content_name(digests)
        with files.atomic_path(made) as temporary:
            files.link_or_copy(path, temporary)
        target.publish(made)
    elif len(places):
        target.publish(copy_rows(path, fingerprint, places, target.landing_folder))
    done.rows += len(places)
    done.shards += bool(len(places))


def _sound_rows(path: Path, count: int) -> np.ndarray:
    """Which rows of a shard can be taken: none where its structure is damaged."""
    try:
        return sound_rows(path)
    except CacheError as error:
        logger.warning("Its rows are left behind: %s", error)
        return np.zeros(count, bool)


def _merge_listing(target: Cache, listing: Listing, done: Merged) -> None:
    try:
        report, samples, failures = listing.report(), listing.samples(), listing.failures()
    except CacheError as error:
        logger.warning("The data set %s of %s is left out: %s", listing.name, done.source, error)
        return
    longer = f"{listing.name}-{files.digest(_essence(samples))[:_SUFFIX]}"
    for name in (listing.name, longer):
        own = Listing(target.folder, name)
        if not (own.report_path.exists() or own.samples_path.exists()) or _is_begun(own, report):
            own.write(report, samples, failures)
            done.names[listing.name] = name
            return
        if _is_same(own, samples):
            return
    raise CacheError(f"{target.folder} has another data set {longer}, or a damaged one. Remove or repair it")


def _is_begun(own: Listing, report: Report) -> bool:
    """Whether the report is that of a table which an earlier call was killed before it wrote."""
    with contextlib.suppress(CacheError):
        return not own.samples_path.exists() and own.report().samples.digest == report.samples.digest
    return False


def _is_same(own: Listing, samples: SampleTable) -> bool:
    try:
        return _essence(own.samples()) == _essence(samples)
    except CacheError:
        return False


def _essence(samples: SampleTable) -> bytes:
    """What makes up a data set: all but the times of its files, which differ from machine to machine."""
    texts = json.dumps([samples.paths, samples.labels, samples.splits, samples.groups])
    return files.digest(texts.encode()).encode() + samples.digests.tobytes()

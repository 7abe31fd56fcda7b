"""The caches that were asked for, opened for one engine, and what has to be forwarded for them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastcls.cache.lease import Leases
from fastcls.cache.store import Cache
from fastcls.engines.trunk import Trunk
from fastcls.extraction.caches import CutCaches
from fastcls.extraction.coverage import Coverage, ViewedDataset, find_coverage
from fastcls.extraction.engine_choice import Candidate
from fastcls.extraction.shard_tasks import Work
from fastcls.extraction.shared_trunk import shared_trunk


@dataclass(frozen=True)
class Target:
    """A cache that was asked for.

    Attributes:
        caches: Those that serve its cut.
        cache: The cache.
        coverage: What is missing in it.
        trunk: The model that makes its rows.
    """

    caches: CutCaches
    cache: Cache
    coverage: Coverage
    trunk: Trunk

    @classmethod
    def of(cls, caches: CutCaches, cache: Cache, trunk: Trunk, viewed: ViewedDataset) -> Target:
        """A cache and what it lacks."""
        cache = viewed.served_by(cache)
        return cls(caches, cache, find_coverage(viewed, cache), trunk)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return not self.coverage.missing

    @property
    def note(self) -> str:
        """What becomes of a split that the table of the data set has already; "" where that is plain."""
        table, kept, lost = (
            self.cache.listing.samples_path,
            self.coverage.kept_split,
            self.coverage.lost_split,
        )
        if kept:
            return f"{table} keeps its split ({kept}), as the data has none. --name makes a table without it"
        return f"{table} has another split ({lost}), which is replaced. --name keeps both" if lost else ""


@dataclass(frozen=True)
class Filling:
    """The caches that were asked for, and what is missing in them.

    Attributes:
        targets: One per cut.
        work: What has to be forwarded for those in `filled`.
        trunk: What an engine runs, whose rows are those of `filled`, end to end.
    """

    targets: tuple[Target, ...]
    work: Work
    trunk: Trunk

    @classmethod
    def of(cls, targets: Sequence[Target], viewed: ViewedDataset, root: Path) -> Filling:
        """Some caches, of one precision where they lack something."""
        filled = [target for target in targets if not target.is_complete]
        missing = [target.coverage.missing for target in filled]
        work = Work.of(viewed.dataset.root.absolute(), missing, viewed.views)
        if len(filled) < 2:
            return cls(tuple(targets), work, (filled or targets)[0].trunk)
        caches = [target.cache for target in filled]
        trunk = shared_trunk(lambda: [target.caches.built.cut for target in filled], caches, root)
        return cls(tuple(targets), work, trunk)

    @property
    def filled(self) -> list[Target]:
        """The caches that lack something."""
        return [target for target in self.targets if not target.is_complete]

    def remember(self) -> None:
        """Note that these caches serve the cuts."""
        for target in self.targets:
            target.caches.remember(target.cache)

    def discard(self, leases: Leases) -> None:
        """Remove what was made for an engine that cannot be trusted."""
        if len(self.filled) > 1:
            shutil.rmtree(self.trunk.path.parent)
        for target in self.targets:
            target.caches.discard(target.cache)
            if not target.cache.folder.exists():
                leases.release([target.cache.folder])


def known_targets(
    cuts: Sequence[CutCaches], viewed: ViewedDataset, leases: Leases | None
) -> list[Target | None]:
    """The caches that served some cuts before; None for a cut that has none.

    Args:
        cuts: The cuts.
        viewed: The images, and their views.
        leases: Takes the caches; None to look at them alone.
    """
    known = [cut.known() for cut in cuts]
    while leases and leases.take([cache.folder for cache in known if cache]):
        known = [cut.known() for cut in cuts]
    for cache in known if leases else ():
        if cache:
            cache.deliver()
    return [
        Target.of(cut, cache, Trunk(cache.trunk_path), viewed) if cache else None
        for cut, cache in zip(cuts, known, strict=True)
    ]


def open_filling(
    cuts: Sequence[CutCaches],
    known: Sequence[Target | None],
    candidate: Candidate,
    viewed: ViewedDataset,
    root: Path,
    leases: Leases,
) -> Filling:
    """Open the caches that an engine fills; a known cache that lacks nothing is taken as it is.

    Args:
        cuts: The cuts.
        known: Their targets, as `known_targets` found them with the same leases.
        candidate: The engine that fills the others.
        viewed: The images, and their views.
        root: Folder of caches.
        leases: Takes the caches.

    Raises:
        ConversionError: The engine cannot convert a trunk.
    """
    complete = [target if target and target.is_complete else None for target in known]
    alone = [cut for cut, full in zip(cuts, complete, strict=True) if not full]
    if len(alone) == 1:  # several have a trunk of their own
        alone[0].prepare(candidate)
    is_changed = leases.take(
        target.cache.folder if target else cut.folder(candidate)
        for cut, target in zip(cuts, complete, strict=True)
    )
    targets = []
    for cut, before, full in zip(cuts, known, complete, strict=True):
        cache, trunk = (full.cache, full.trunk) if full else cut.open(candidate)
        if alone == [cut]:
            cut.equip(candidate, cache)
        if before and cache.folder == before.cache.folder and not is_changed:
            targets.append(replace(before, trunk=trunk))  # with the coverage that was found
        else:
            targets.append(Target.of(cut, cache, trunk, viewed))
    return Filling.of(targets, viewed, root)

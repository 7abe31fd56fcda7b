"""Plan an extraction: everything is decided and checked before anything is forwarded or written."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.cache import checked_files, mirror
from fastcls.cache.lease import Leases
from fastcls.cache.samples import SampleRow, SampleTable
from fastcls.cache.store import Cache
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.engines import engine_class
from fastcls.errors import OptionError, spoken
from fastcls.extraction.built import Outline
from fastcls.extraction.caches import CutCaches, caches_of_cuts
from fastcls.extraction.coverage import Foreseen, ViewedDataset, find_lacking, read_digests
from fastcls.extraction.engine_choice import (
    Asked,
    Candidate,
    Machine,
    Obstacle,
    candidates,
    describe_candidates,
    explain,
    look_at_machine,
)
from fastcls.extraction.fidelity import Fidelity, InfidelityError
from fastcls.extraction.filling import Target, known_targets
from fastcls.extraction.resources import Resources, allocate, require_room
from fastcls.files import PathLike
from fastcls.sizes import format_bytes
from fastcls.specs import EXECUTORS, CutSpec, ExtractConfig, ViewSpec
from fastcls.wording import count_of


@dataclass(frozen=True)
class CutPlan:
    """What an extraction would do for one cut.

    Attributes:
        caches: The caches that serve the cut.
        target: The cache that served it before, and what is missing there; None for a cut that has none.
        viewed: The images, and their views.
    """

    caches: CutCaches
    target: Target | None
    viewed: ViewedDataset

    @property
    def cache(self) -> Cache | None:
        """The cache that served the cut before, speaking of the data set; None: a new one is made."""
        return self.target.cache if self.target else None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        return bool(self.target and self.target.is_complete)

    @property
    def filled(self) -> Cache | None:
        """The cache as it will be, where nothing is to be forwarded; None otherwise."""
        if not self.cache or self.lacking:
            return None
        return self.cache.described_by(Foreseen(self.cache, self.viewed, self.rows))

    @cached_property
    def rows(self) -> SampleTable:
        """What is known of each image; those whose digests are not known are read."""
        return read_digests(self.viewed, self.target.coverage if self.target else None)

    @cached_property
    def lacking(self) -> list[tuple[SampleRow, int]]:
        """Those to be forwarded, as far as they can be read, and how many views of each."""
        return find_lacking(self.viewed, self.cache, self.rows)

    @cached_property
    def outline(self) -> Outline:
        """Base, layer, shape and the like."""
        if not self.cache:
            return self.caches.outline
        path = self.cache.trunk_path
        size = path.stat().st_size if path.exists() else self.caches.outline.trunk_bytes
        return Outline.of(self.cache.manifest, size)

    def load_tail(self) -> Any:
        """What follows, as a Keras model; None where there is nothing. Its weights may be random ones.

        Raises:
            CacheError: It is damaged.
        """
        if not self.cache:
            return self.caches.load_tail()
        return checked_files.load_model(self.cache.tail_path) if self.outline.has_tail else None

    def has_trusted(self, candidate: Candidate) -> bool:
        """Whether an engine was compared for this cache before, or needs no comparison.

        Raises:
            InfidelityError: It was found too far off.
        """
        if not self.cache or self.cache.manifest.precision != candidate.precision:
            return False
        known = Fidelity.read(self.cache.manifest.fidelity.get(candidate.engine))
        if known:
            known.require(candidate.engine, candidate.precision)
        return bool(known) or engine_class(candidate.path).is_reference

    @property
    def to_forward(self) -> int:
        """How many images are to be forwarded, copies counted once where there is a cache."""
        return self._missing[0]

    @property
    def _missing(self) -> tuple[int, int]:
        """How many images are to be forwarded, and how many views of them."""
        if not self.target:
            return len(self.viewed.dataset.samples), self.viewed.rows
        counts = {row.digest: count for row, count in self.lacking}
        return len(counts), sum(counts.values())

    @property
    def note(self) -> str:
        """What becomes of a split that the table of the data set has already; "" where that is plain."""
        return self.target.note if self.target else ""

    def __str__(self) -> str:
        if self.cache:
            return f"Cache {spoken(self.cache.folder)}: {self._cost()}"
        made = self.outline
        return (
            f"{made.base} cut at {made.layer}: bottlenecks of {'x'.join(map(str, made.shape))} {made.dtype}; "
            f"no cache in {spoken(self.caches.root)} yet, {self._cost()}"
        )

    def _cost(self) -> str:
        """What is to be forwarded, and what it takes on disk."""
        images, rows = self._missing
        views = f" in {count_of(rows, 'view')}" if rows > images else ""
        size = rows * math.prod(self.outline.shape) * np.dtype(self.outline.dtype).itemsize
        takes = f", {format_bytes(size)}" if size else ""
        return f"{count_of(images, 'image')} to forward{views}{takes}"


@dataclass(frozen=True)
class ExtractionPlan:
    """An extraction, decided and checked: what `extract_planned` executes.

    Attributes:
        viewed: The images, and what is asked of them.
        root: Folder of caches.
        config: How it runs.
        cuts: One per cut.
        candidates: What to run the trunk with: the first that can be trusted. Empty where nothing is missing.
        asked: What the candidates were chosen by; None where nothing is missing.
        machine: What this machine can run.
    """

    viewed: ViewedDataset
    root: Path
    config: ExtractConfig
    cuts: tuple[CutPlan, ...]
    candidates: tuple[Candidate, ...] = ()
    asked: Asked | None = None
    machine: Machine = field(default_factory=Machine)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing: there is nothing to forward."""
        return all(cut.is_complete for cut in self.cuts)

    @property
    def is_decided(self) -> bool:
        """Whether the first candidate has passed the check before, for all caches that lack something."""
        with contextlib.suppress(InfidelityError):
            return all(cut.has_trusted(self.candidates[0]) for cut in self.cuts if not cut.is_complete)
        return False

    @property
    def resources(self) -> Resources | None:
        """Who would forward the images, with the first candidate; None where nothing is missing."""
        if not self.candidates:
            return None
        filled = [cut for cut in self.cuts if not cut.is_complete]
        missing = [len(cut.target.coverage.missing) if cut.target else self.viewed.rows for cut in filled]
        return allocate(
            self.config,
            engine_class(self.candidates[0].path),
            rows=max(missing),
            trunk_bytes=max(cut.outline.trunk_bytes for cut in filled),
            has_workers=EXECUTORS[self.config.executor].has_workers,
        )

    def warn_of_conflicts(self) -> None:
        """Name identical images that have different labels."""
        target = self.cuts[0].target
        self.viewed.dataset.warn_of_conflicts(target.coverage.rows.digests if target else None)

    def describe(self, names: Sequence[str] = ()) -> list[str]:
        """The plan as lines of text.

        Args:
            names: What tells its cuts apart from those of other plans.
        """
        starts = [f"{name}: " for name in names] or [""] * len(self.cuts)
        pairs = zip(starts, self.cuts, strict=True)
        lines = [line for start, cut in pairs for line in (f"{start}{cut}", cut.note) if line]
        if self.candidates and any(cut.to_forward for cut in self.cuts):
            engine = describe_candidates(self.candidates, is_decided=self.is_decided)
            lines += [f"{engine}. {self.resources}"]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.describe())


def plan_extraction(
    dataset: Dataset,
    cuts: Sequence[CutSpec | Cut],
    root: PathLike,
    config: ExtractConfig | None = None,
    *,
    views: ViewSpec | None = None,
    name: str | None = None,
) -> ExtractionPlan:
    """Make every check that an extraction makes before its first forward pass; nothing is written.

    Args:
        dataset: The images.
        cuts: What to forward them through: cuts of one base.
        root: Folder of caches, or its URL.
        config: See `extract`.
        views: See `extract`.
        name: See `extract`.

    Raises:
        OptionError: The base, layer or weights cannot be used, the cuts do not fit together, the root cannot
            be made, or no engine can do what was asked for.
        MissingExtraError: An engine's package is not installed.
    """
    viewed = ViewedDataset(dataset, views or ViewSpec(), name)
    plan = make_plan(viewed, cuts, mirror.opened(root, "root"), config or ExtractConfig(), None)
    plan.warn_of_conflicts()
    return plan


def make_plan(
    viewed: ViewedDataset,
    cuts: Sequence[CutSpec | Cut],
    root: Path,
    config: ExtractConfig,
    leases: Leases | None,
) -> ExtractionPlan:
    """Plan an extraction.

    Args:
        viewed: The images, and their views.
        cuts: Cuts of one base.
        root: Folder of caches.
        config: How the extraction runs.
        leases: Takes the known caches for an extraction that follows at once; None for a plan alone, which
            downloads no weights.
    """
    files.require_writable(root)
    if leases:
        mirror.require_writable(root)
    return _plan(viewed, caches_of_cuts(cuts, root), root, config, leases)


def renew(plan: ExtractionPlan, leases: Leases) -> ExtractionPlan:
    """The same plan, once its caches can be changed by no other process: what is missing is found again."""
    files.require_writable(plan.root)
    mirror.require_writable(plan.root)
    cuts = [cut.caches for cut in plan.cuts]
    return _plan(plan.viewed, cuts, plan.root, plan.config, leases, earlier=plan)


def _plan(
    viewed: ViewedDataset,
    cuts: Sequence[CutCaches],
    root: Path,
    config: ExtractConfig,
    leases: Leases | None,
    earlier: ExtractionPlan | None = None,
) -> ExtractionPlan:
    planned = tuple(
        CutPlan(*pair, viewed) for pair in zip(cuts, known_targets(cuts, viewed, leases), strict=True)
    )
    if all(cut.is_complete for cut in planned):
        return ExtractionPlan(viewed, root, config, planned)
    require_room(config)
    unbuilt = [cut.caches for cut in planned if _has_no_models(cut)]
    for caches in unbuilt:
        caches.check(with_weights=False)
    _require_different(planned)
    begun = {cut.cache.manifest.precision for cut in planned if cut.cache and not cut.is_complete}
    asked = Asked(config.engine, cuts[0].precision, tuple(sorted(begun)))
    known = earlier if earlier and asked == earlier.asked else None
    machine = known.machine if known else look_at_machine(asked)
    able = known.candidates if known else _able(planned, asked, machine)
    for caches in unbuilt if leases else ():  # all else is checked before weights are downloaded
        caches.check(with_weights=True)
    return ExtractionPlan(viewed, root, config, planned, able, asked, machine)


def _has_no_models(cut: CutPlan) -> bool:
    """Whether the models of a cache that is to be filled have to be made."""
    return not cut.cache or (not cut.is_complete and bool(checked_files.damage(*cut.cache.models)))


def _able(cuts: Sequence[CutPlan], asked: Asked, machine: Machine) -> tuple[Candidate, ...]:
    """What can be tried; raises OptionError where earlier comparisons rule out all of it."""
    able = candidates(asked, machine)
    refused = _refused(cuts, able)
    if all(candidate in refused for candidate in able if not candidate.stands_in):
        raise explain(asked, machine, refused.values())
    return tuple(able)


def _refused(cuts: Sequence[CutPlan], able: Sequence[Candidate]) -> dict[Candidate, Obstacle]:
    """The candidates that earlier comparisons rule out, and why; they are left out with a warning later."""
    refused: dict[Candidate, Obstacle] = {}
    for candidate in able:
        try:
            for cut in cuts:
                if not cut.is_complete:
                    cut.has_trusted(candidate)
        except InfidelityError as error:
            refused[candidate] = error
    return refused


def _require_different(cuts: Sequence[CutPlan]) -> None:
    """Refuse two cuts of one cache, such as a layer without positions, pooled in two ways."""
    kinds = [(cut.outline.layer, cut.outline.pooling, cut.outline.dtype) for cut in cuts]
    for place, kind in enumerate(kinds):
        if kind in kinds[:place]:
            raise OptionError(f"Two of the cuts have the same bottlenecks (at {kind[0]}). Remove one")

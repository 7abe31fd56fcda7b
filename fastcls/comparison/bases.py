"""Compare bases: each is extracted once, and ranked by what a logistic regression makes of it."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.cache import mirror
from fastcls.cache.store import Cache
from fastcls.comparison.costs import Cost, Rate, rate_of
from fastcls.comparison.probing import CommonImages, Probed, probe
from fastcls.comparison.ranking import BaseComparison, RankedBase, find_efficient
from fastcls.data.dataset import Dataset
from fastcls.engines import engine_class
from fastcls.errors import DataError, FastclsError, OptionError
from fastcls.evaluation.paired import Measured, figures_of, measure, value_of
from fastcls.extraction.coverage import ViewedDataset
from fastcls.extraction.extractor import extract_planned
from fastcls.extraction.planner import CutPlan, ExtractionPlan, make_plan
from fastcls.extraction.tracker import Extraction
from fastcls.files import PathLike
from fastcls.machine import available_memory
from fastcls.sizes import format_bytes
from fastcls.specs import CutSpec, ExtractConfig, ViewSpec, as_list
from fastcls.specs.comparing import ProbeSpec
from fastcls.specs.options import as_spec
from fastcls.wording import count_of

logger = logging.getLogger(__name__)
OnExtracted = Callable[[str, Cache, Extraction], Any]


@dataclass(frozen=True)
class Entrant:
    """A candidate before it is measured.

    Attributes:
        name: What tells it apart from the others.
        asked: Its base and cut, as they were asked for.
        plan: What its extraction would do.
    """

    name: str
    asked: CutSpec
    plan: CutPlan


@dataclass(frozen=True)
class ComparisonPlan:
    """A comparison, decided and checked: what `compare_planned` carries out.

    Attributes:
        dataset: The images.
        extractions: One per base, with its cuts.
        entrants: The candidates of each.
        probe: How they are ranked.
        folder: Where the result goes; None for nowhere.
    """

    dataset: Dataset
    extractions: tuple[ExtractionPlan, ...]
    entrants: tuple[tuple[Entrant, ...], ...]
    probe: ProbeSpec
    folder: Path | None

    def __str__(self) -> str:
        pairs = zip(self.extractions, self.entrants, strict=True)
        return "\n".join(
            line for plan, entrants in pairs for line in plan.describe([own.name for own in entrants])
        )


def compare_bases(
    dataset: Dataset | PathLike,
    cuts: Sequence[CutSpec | PathLike],
    root: PathLike,
    config: ExtractConfig | None = None,
    *,
    probe: ProbeSpec | None = None,
    name: str | None = None,
    folder: PathLike | None = None,
    progress: bool = False,
) -> BaseComparison:
    """Rank bases by a cross-validated logistic regression on the user's images.

    Each base is extracted as `extract` does it, into the same caches; what is there is not forwarded again.
    Images for testing have no part in the ranking. What fails once the extraction has begun is left out.

    Args:
        dataset: The images, or their path as `Dataset.open` takes it.
        cuts: What to compare: names of bases, or cuts. Those of one base share a forward pass.
        root: Folder of caches.
        config: How the extractions run.
        probe: Folds, repeats and seed.
        name: What the data set is called in the caches; its own name by default.
        folder: A new folder for comparison.json, comparison.csv and comparison.png; None for none.
        progress: Show bars on stderr.

    Raises:
        OptionError: A base, layer or weights cannot be used, two of them are the same, or the folder is
            there.
        DataError: There are no two classes to tell apart.
        FastclsError: All bases failed: the error of the first.
    """
    several = as_list(cuts, "cuts", CutSpec, str, Path)
    plan = plan_comparison(
        Dataset.of(dataset),
        [as_spec(CutSpec, each, "cuts", named=True) for each in several],
        mirror.opened(root, "root"),
        as_spec(ExtractConfig, config, "config"),
        probe=as_spec(ProbeSpec, probe, "probe"),
        name=name,
        folder=None if folder is None else files.as_path(folder, "folder"),
    )
    return compare_planned(plan, progress=progress)


def plan_comparison(
    dataset: Dataset,
    cuts: Sequence[CutSpec],
    root: Path,
    config: ExtractConfig,
    *,
    probe: ProbeSpec,
    name: str | None = None,
    folder: Path | None = None,
) -> ComparisonPlan:
    """Make every check before anything is forwarded, downloaded or written.

    Raises:
        OptionError, DataError: See `compare_bases`.
    """
    if folder is not None:
        files.require_new(folder)
    _require_classes(dataset)
    probe.groups([s.path for s in dataset.samples], [s.group for s in dataset.samples])  # or refused
    viewed, groups = ViewedDataset(dataset, ViewSpec(), name), _grouped(cuts)
    plans: list[ExtractionPlan] = []
    for group in groups:
        with _named(group[0].base.name):
            plans.append(make_plan(viewed, group, root, config, None))
            _require_memory(plans[-1])
    plans[0].warn_of_conflicts()
    return ComparisonPlan(dataset, tuple(plans), _entrants(groups, plans), probe, folder)


def compare_planned(
    plan: ComparisonPlan, *, on_extracted: OnExtracted = lambda *_: None, progress: bool = False
) -> BaseComparison:
    """Carry out a comparison.

    Args:
        plan: Of `plan_comparison`.
        on_extracted: Called with each candidate's name, its cache that is complete, and the figures of
            its extraction.
        progress: Show bars on stderr.

    Raises:
        FastclsError, OSError: See `compare_bases`.
    """
    _fetch_weights(plan)
    failed: dict[str, Exception] = {}
    filled = [*_extract(plan, failed, on_extracted, progress=progress)]
    if not filled:
        raise next(iter(failed.values()))
    images = CommonImages.of([own.cache for own in filled], plan.probe)
    judged = [*_judge(filled, images, failed)]
    if not judged:
        raise next(iter(failed.values()))
    result = BaseComparison(
        str(plan.dataset.origin),
        *(images.count, images.test_count, figures_of(images.task), plan.probe),
        _rank(judged, images),
        {name: str(error) for name, error in failed.items()},
    )
    if plan.folder:
        result.write(plan.folder)
    return result


@dataclass(frozen=True, eq=False)
class _Filled:
    """A candidate that is extracted: its cache, and how fast that was filled."""

    entrant: Entrant
    cache: Cache
    rate: Rate | None


@dataclass(frozen=True, eq=False)
class _Judged:
    """A candidate that is probed: what the probe predicts, and what the trunk costs."""

    filled: _Filled
    probed: Probed
    cost: Cost


def _extract(
    plan: ComparisonPlan, failed: dict[str, Exception], on_extracted: OnExtracted, *, progress: bool
) -> Iterator[_Filled]:
    for extraction, entrants in zip(plan.extractions, plan.entrants, strict=True):
        with _noted(failed, *(own.name for own in entrants)):
            found = extract_planned(extraction, progress=progress)
            for own, (cache, done) in zip(entrants, found, strict=True):
                on_extracted(own.name, cache, done)
                yield _Filled(own, cache, rate_of(cache, done))


def _judge(
    filled: Sequence[_Filled], images: CommonImages, failed: dict[str, Exception]
) -> Iterator[_Judged]:
    for own in filled:
        with _noted(failed, own.entrant.name):
            yield _Judged(own, probe(own.cache, images), Cost.of_trunk(own.cache))


@contextlib.contextmanager
def _noted(failed: dict[str, Exception], *names: str) -> Iterator[None]:
    """Leave out candidates that fail, with a warning."""
    try:
        yield
    except (FastclsError, OSError, MemoryError) as error:
        for name in names:
            logger.warning("%s is left out: %s", name, error or type(error).__name__)
            failed[name] = error


def _rank(judged: Sequence[_Judged], images: CommonImages) -> tuple[RankedBase, ...]:
    """The best first; of equals the one with fewer multiply-adds."""
    figures, outcomes = figures_of(images.task), [own.probed.outcomes for own in judged]
    columns = {figure.name: measure(outcomes, figure) for figure in figures}
    costs = [own.cost.multiply_adds for own in judged]
    values = [measured.estimate.value for measured in columns[figures[0].name]]
    efficient = find_efficient(costs, values)
    made = [
        _ranked(own, {name: column[place] for name, column in columns.items()}, images, efficient[place])
        for place, own in enumerate(judged)
    ]
    return tuple(made[place] for place in sorted(range(len(made)), key=lambda p: (-values[p], costs[p])))


def _ranked(
    judged: _Judged, measured: Mapping[str, Measured], images: CommonImages, is_efficient: bool
) -> RankedBase:
    own, probed = judged.filled, judged.probed
    asked, manifest = own.entrant.asked.base, own.cache.manifest
    return RankedBase(
        *(own.entrant.name, asked.name, asked.weights, manifest.layer, manifest.pool, own.cache.folder),
        data_set=own.cache.listing.name,
        measured=measured,
        test=_test_figures(probed, images),
        c=probed.c,
        rate=own.rate,
        bytes_per_image=math.prod(manifest.shape) * np.dtype(manifest.dtype).itemsize,
        precision=manifest.precision,
        cost=judged.cost,
        is_efficient=is_efficient,
    )


def _test_figures(probed: Probed, images: CommonImages) -> dict[str, float]:
    if probed.test is None:
        return {}
    return {figure.name: value_of(probed.test, figure) for figure in figures_of(images.task)}


def _fetch_weights(plan: ComparisonPlan) -> None:
    """Get the weights of all bases before the first image is forwarded: any of them may not be there.

    Raises:
        OptionError: They cannot be downloaded, or read.
    """
    for entrants in plan.entrants:
        for own in entrants:
            if not own.plan.cache:
                with _named(own.asked.base.name):
                    own.plan.caches.check(with_weights=True)


def _require_memory(plan: ExtractionPlan) -> None:
    """Refuse a base that this machine cannot load."""
    filled = [cut for cut in plan.cuts if not cut.is_complete]
    if not filled or not plan.candidates:
        return
    engine, free = engine_class(plan.candidates[0].path), available_memory()
    needed = engine.memory(max(cut.outline.trunk_bytes for cut in filled))
    if needed > free:
        base = filled[0].outline.base
        raise OptionError(
            f"{base} needs about {format_bytes(needed)} of memory, and {format_bytes(free)} are free. Leave "
            "it out, or end other programs first"
        )


def _require_classes(dataset: Dataset) -> None:
    ranked = [sample for sample in dataset.samples if sample.split != "test"]
    classes = {label for sample in ranked for label in sample.labels}
    if len(classes) < 2:
        raise DataError(
            f"{dataset.given} has {count_of(len(ranked), 'image')} of {count_of(len(classes), 'class')} that "
            "are not for testing. Bases are compared by how well they tell classes apart: give two or more"
        )


def _grouped(cuts: Sequence[CutSpec]) -> list[list[CutSpec]]:
    """The cuts that can share a forward pass."""
    groups: dict[Any, list[CutSpec]] = {}
    for place, cut in enumerate(cuts):
        if cut in cuts[:place]:
            raise OptionError(f"{cut.base.name} is given twice, with the same cut. Remove one")
        alone = place if cut.precision == "int8" else None  # which is calibrated for each cut
        groups.setdefault((cut.base, cut.precision, cut.full_decode, cut.resize, alone), []).append(cut)
    if not groups:
        raise OptionError("There is nothing to compare. Give one base or more")
    return [*groups.values()]


@contextlib.contextmanager
def _named(base: str) -> Iterator[None]:
    """Say of which base an error is."""
    try:
        yield
    except OptionError as error:
        if base in str(error):
            raise
        raise OptionError(f"{base}: {error}") from error


def _entrants(
    groups: Sequence[Sequence[CutSpec]], plans: Sequence[ExtractionPlan]
) -> tuple[tuple[Entrant, ...], ...]:
    pairs = [[*zip(group, plan.cuts, strict=True)] for group, plan in zip(groups, plans, strict=True)]
    names = iter(_names([pair for group in pairs for pair in group]))
    return tuple(tuple(Entrant(next(names), *pair) for pair in group) for group in pairs)


def _names(entrants: Sequence[tuple[CutSpec, CutPlan]]) -> list[str]:
    """What tells candidates apart: the name of the base, and in what else those of one name differ."""
    rows = [_facts(*entrant) for entrant in entrants]
    names = [row["base"] for row in rows]
    for fact in rows[0]:
        longer = [f"{name} {row[fact]}" for name, row in zip(names, rows, strict=True)]
        for name in {*names}:  # a fact is named where it tells apart what is not apart yet
            places = [place for place, own in enumerate(names) if own == name]
            if len({longer[place] for place in places}) > 1:
                names = [longer[place] if place in places else own for place, own in enumerate(names)]
    return names


def _facts(asked: CutSpec, planned: CutPlan) -> dict[str, str]:
    base, outline = asked.base, planned.outline
    is_file = "/" in base.name
    size = "x".join(map(str, base.size)) if base.size else "own size"
    return {
        "base": Path(base.name).stem if is_file else base.name,
        "given": base.name if is_file else "",
        "weights": Path(base.weights).name if base.weights else "own weights",
        "size": size,
        "normalize": base.normalize or "own normalization",
        "layer": outline.layer,
        "pool": outline.pooling,
        "dtype": outline.dtype,
        "precision": asked.precision,
        "decode": "full decode" if asked.full_decode else "reduced decode",
        "resize": asked.resize,
    }

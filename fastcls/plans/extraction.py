"""What an extraction would do, until the extraction tells it itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.bases.loader import load_base
from fastcls.bases.registry import find_architecture
from fastcls.cache.index import locate_views
from fastcls.cache.store import Cache
from fastcls.cutter import bottleneck_model, cut, tail_model
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.extraction.extractor import Extraction, extract_several
from fastcls.extraction.planner import Order, Requested, make_plan
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, ViewSpec
from fastcls.training.head_trainer import load_tail


@dataclass(frozen=True)
class CutPlan:
    """What an extraction knows of one cut before it begins."""

    spec: CutSpec
    known: Cache | None
    shape: tuple[int, ...]
    missing: int
    tail: Any


@dataclass(frozen=True)
class ExtractionPlan:
    """An extraction that is checked."""

    dataset: Dataset
    cuts: tuple[CutPlan, ...]
    root: Path
    config: ExtractConfig
    views: ViewSpec | None
    name: str | None

    def describe(self) -> list[str]:
        """It in words."""
        return [_describe(planned, self.root) for planned in self.cuts]


def plan_extraction(
    dataset: Dataset,
    cuts: Sequence[CutSpec],
    root: Path,
    config: ExtractConfig | None = None,
    *,
    views: ViewSpec | None = None,
    name: str | None = None,
) -> ExtractionPlan:
    """Check an extraction."""
    files.require_writable(root)
    order = Order(dataset, views or ViewSpec(), name)
    planned = tuple(_plan(spec, root, order) for spec in cuts)
    return ExtractionPlan(dataset, planned, root, config or ExtractConfig(), views, name)


def extract_planned(plan: ExtractionPlan, *, progress: bool = False) -> list[tuple[Cache, Extraction]]:
    """Extract."""
    specs = [planned.spec for planned in plan.cuts]
    asked = (plan.dataset, specs, plan.root, plan.config)
    return extract_several(*asked, views=plan.views, name=plan.name, progress=progress)


def _plan(spec: CutSpec, root: Path, order: Order) -> CutPlan:
    known = Requested(spec, root).known()
    if known:
        missing = _count_missing(order, order.served_by(known))
        tail = load_tail(known) if known.manifest.tail_digest else None
        return CutPlan(spec, known, tuple(known.manifest.shape), missing, tail)
    made = cut(load_base(without_download(spec.base)), spec.layer, pool=spec.pool, dtype=spec.dtype)
    shape = tuple(bottleneck_model(made).outputs[0].shape[1:])
    return CutPlan(spec, None, shape, len(order.dataset.samples), tail_model(made))


def _describe(planned: CutPlan, root: Path) -> str:
    if planned.known:
        return f"Cache {planned.known.folder}: {planned.missing} images to forward"
    spec, shape = planned.spec, "x".join(map(str, planned.shape))
    return (
        f"{spec.base.name} cut at {spec.layer or 'its end'}: bottlenecks of {shape} {spec.dtype}; no cache "
        f"of it in {root} yet, {planned.missing} images to forward"
    )


def _count_missing(order: Order, cache: Cache) -> int:
    """How many readable images lack a view; files whose times tell nothing of their bytes are read."""
    rows = [
        row if row.digest else replace(row, digest=digest_or_none(order.dataset.root / row.path))
        for row in make_plan(order, cache).rows
    ]
    lacking = locate_views(cache.index(), rows, order.views).lacking
    unusable = {"", *(failure.digest for failure in cache.listing.recall().failures)}
    return sum(bool(count) and row.digest not in unusable for row, count in zip(rows, lacking, strict=True))


def digest_or_none(path: Path) -> str:
    """The identity of an image; "" for one that cannot be read."""
    try:
        return image_bytes.digest(path)
    except OSError:
        return ""


def without_download(spec: BaseSpec) -> BaseSpec:
    """The same base, where its weights would be downloaded with random ones."""
    is_download = find_architecture(spec.name) and spec.weights in (None, "imagenet")
    return replace(spec, weights="random") if is_download else spec

"""Large JPEGs: what decoding at reduced scale saves, and what it changes."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contenders import watch_executor
from benchmarks.figures import Cell, Spread, Table, ratio
from benchmarks.fresh import Run, run_fresh
from benchmarks.photos import enlarge, list_photos
from benchmarks.setup import Setup, finished, in_turn, reported, skips
from fastcls.data.dataset import Dataset
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig

_SIZE = (4000, 3000)
_PRECISIONS = ("auto", "float32")
_WAYS = {"reduced": "fastcls, decoding at reduced scale", "full": "fastcls, decoding in full"}
_COLUMNS = ("contender", "precision", "total seconds", "images/s after start-up", "times full decoding")


def measure(setup: Setup) -> list[Table]:
    """Extraction of large photos with the scaling decoder and without, and what that does to the rows."""
    photos = enlarge(setup.photos, setup.folder / "large", size=_SIZE, limit=setup.large_images)
    kinds = [(precision, way) for precision in _PRECISIONS for way in _WAYS]
    runs = in_turn({_name(*kind): _extraction(setup, photos, *kind) for kind in kinds}, setup.repeats)
    done = finished(runs)
    notes = (
        f"{len(list_photos(photos))} photos, enlarged to {_SIZE[0]}x{_SIZE[1]} by cubic interpolation: they "
        "have less detail than a camera's. All in one process, with a thread per core.",
        f"Float32 bottlenecks of reduced against full decoding: {_difference(setup, photos)}.",
    )
    return [Table("Large JPEGs", _COLUMNS, [_row(done, *kind) for kind in kinds], (*notes, *skips(runs)))]


def extract_large(
    photos: str, base: str, weights: str | None, out: str, *, precision: str, full: bool
) -> dict[str, Any]:
    """`fastcls.extract` in this process, by the scaling decoder or by one that never scales."""
    from fastcls.extraction import extractor

    watch = watch_executor("inline")
    spec = CutSpec(BaseSpec(base, weights), precision=precision, full_decode=full)
    dataset = Dataset.from_folder(Path(photos))
    cache, figures = extractor.extract(dataset, spec, Path(out), ExtractConfig(executor="inline"))
    return {"images": figures.forwarded, "rate": watch.rate(), "cache": str(cache.folder)}


def compare_caches(reduced: str, full: str) -> dict[str, Any]:
    """How near the rows of one cache come to those of another of the same images."""
    from fastcls.cache.index import Rows
    from fastcls.cache.store import Cache
    from fastcls.extraction.fidelity import compare

    indexes = [Cache(Path(folder)).index() for folder in (reduced, full)]  # sorted by digest
    rows, reference = (Rows(index.shards, index.shard, index.row).read() for index in indexes)
    figures = compare(rows, reference)
    return {"said": str(figures), **asdict(figures)}


def _extraction(setup: Setup, photos: Path, precision: str, way: str) -> Callable[[], Run]:
    options = {"photos": str(photos), "precision": precision, "full": way == "full", **setup.base_options}
    return functools.partial(setup.fresh, extract_large, **options)


def _row(done: Mapping[str, list[Run]], precision: str, way: str) -> tuple[Cell, ...]:
    tried, full = (done.get(_name(precision, name), []) for name in (way, "full"))
    rate = reported(tried, "rate")
    seconds = Spread.of(run.seconds for run in tried)
    return _WAYS[way], precision, seconds, rate, ratio(rate, reported(full, "rate"))


def _name(precision: str, way: str) -> str:
    return f"large-{precision}-{way}"


def _difference(setup: Setup, photos: Path) -> str:
    with tempfile.TemporaryDirectory(dir=setup.folder) as folder:
        caches = {}
        for way in _WAYS:
            options = {"photos": str(photos), "out": f"{folder}/{way}", **setup.base_options}
            run = run_fresh(extract_large, precision="float32", full=way == "full", **options)
            caches[way] = run.report.get("cache", "")
        run = run_fresh(compare_caches, **caches)
    return run.skipped or run.report["said"]

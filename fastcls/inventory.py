"""Find the runs and caches below a folder, whole or not, without loading any model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastcls import runs, unfinished
from fastcls.cache import mirror
from fastcls.cache.listing import Report, listings
from fastcls.cache.manifest import Manifest
from fastcls.cache.store import Cache, is_cache
from fastcls.errors import CacheError, FastclsError, OptionError, spoken
from fastcls.files import PathLike
from fastcls.runs import Run
from fastcls.used_images import REFIT, TRAIN, VAL

COMPLETE, UNFINISHED, DAMAGED = "complete", "unfinished", "damaged"


@dataclass(frozen=True)
class Entry:
    """A run or a cache.

    Attributes:
        kind: "run" or "cache".
        path: Its folder.
        state: "complete", "unfinished" (the same command goes on) or "damaged".
        bytes: Size of all files in it.
        date: When it was made, or last extended, in UTC; "" if that is unknown.
        base: Name of the base, or the file that it came from.
        cut: The layer; "" of a run of `finetune`.
        images: By their use: "train" and "val" of a run; the names of the data sets of a cache.
        head: Kind of the head; "finetuned" for a network.
        val: Validation figures of the epoch, or of the candidate, that was kept.
        tests: Figures of each test, by its name.
        problem: What is wrong with it, or missing.
    """

    kind: str
    path: Path
    state: str = COMPLETE
    bytes: int = 0
    date: str = ""
    base: str = ""
    cut: str = ""
    images: Mapping[str, int] = field(default_factory=dict)
    head: str = ""
    val: Mapping[str, float] = field(default_factory=dict)
    tests: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    problem: str = ""


def find(place: PathLike) -> Iterator[Entry]:
    """The runs and caches below a folder, or the one that it is, in the order of their paths.

    Hidden folders and links are not entered.

    Args:
        place: The folder, or the URL of a cache, or of a folder of caches.

    Raises:
        OptionError: There is no such folder.
    """
    folder = mirror.opened(place, "folder")
    if not folder.is_dir():
        raise OptionError(f"There is no folder {spoken(folder)}")
    for place, folders, names in os.walk(folder):
        known = {*folders, *names}
        if is_cache(known):
            yield _look("cache", _look_at_cache, Path(place))
        elif runs.is_run(known):
            yield _look("run", _look_at_run, Path(place))
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            continue
        folders.clear()


def _look(kind: str, facts: Callable[[Path], dict[str, Any]], folder: Path) -> Entry:
    try:
        found = facts(folder)
    except (FastclsError, OSError) as error:
        found = {"state": DAMAGED, "problem": str(error)}
    return Entry(kind, folder, bytes=mirror.size(folder), **found)


def _look_at_run(folder: Path) -> dict[str, Any]:
    if runs.is_begun(folder):
        return {"state": UNFINISHED, "problem": "the training has not ended"}
    run = Run.open(folder)
    figures = run.record["figures"]
    base, cut = _origin({**run.resolved, **run.record})
    head = run.resolved.get("head") if runs.HEAD in run.record["files"] else None
    images: Mapping[str, Any] = run.record["images"]
    state, problem = COMPLETE, ""
    if run.lost:
        state, problem = DAMAGED, f"{', '.join(run.lost)} missing"
    elif folder.absolute() == unfinished.working_folder(folder.absolute().with_suffix("")):
        state, problem = UNFINISHED, "trained, but not moved to its place"
    return {
        "state": state,
        "problem": problem,
        "date": _date(folder / runs.RECORD),
        "base": base,
        "cut": cut,
        "images": {TRAIN: images.get(TRAIN, 0), VAL: images.get(VAL, 0) + images.get(REFIT, 0)},
        "head": str(head.get("kind", "")) if isinstance(head, dict) else "finetuned",
        "val": {name.removeprefix("val_"): figures[name] for name in figures if name.startswith("val_")},
        "tests": {name: _numbers(tested) for name, tested in run.tests().items()},
    }


def _origin(record: Mapping[str, Any]) -> tuple[str, str]:
    """Base and cut of a run; of a fine-tuned network those of the run that it began with."""
    start: Any = record
    while isinstance(start, dict):
        if isinstance(start.get("cache"), dict):
            return str(start["cache"].get("base", "")), str(start["cache"].get("layer", ""))
        if "name" in start:
            return str(start["name"]), ""
        start = start.get("start")
    return "", ""


def _look_at_cache(folder: Path) -> dict[str, Any]:
    cache = Cache(folder)
    reports: dict[str, Report] = {}
    state, problem = COMPLETE, ""
    for listing in listings(folder):
        try:
            reports[listing.name] = listing.report()
        except CacheError as error:
            state, problem = DAMAGED, str(error)
    gone = cache.lost_models
    if gone:
        state, problem = DAMAGED, f"{', '.join(gone)} missing"
    elif state == COMPLETE and not all(_is_filled(report) for report in reports.values() or [None]):
        state, problem = UNFINISHED, "the extraction has not ended"
    return {
        "state": state,
        "problem": problem,
        "date": max((report.written for report in reports.values()), default=_date(folder)),
        "base": cache.manifest.base,
        "cut": _cut(cache.manifest),
        "images": {name: report.samples.lines for name, report in reports.items()},
    }


def _is_filled(report: Report | None) -> bool:
    return report is not None and not report.extraction.get("missing")


def _cut(manifest: Manifest) -> str:
    return manifest.layer if manifest.pool == "none" else f"{manifest.layer} ({manifest.pool})"


def _numbers(values: Any) -> dict[str, float]:
    """Those members of an object that are numbers."""
    known = values.items() if isinstance(values, dict) else ()
    return {name: value for name, value in known if isinstance(value, (int, float))}


def _date(path: Path) -> str:
    changed = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    return changed.strftime("%Y-%m-%dT%H:%M:%SZ")

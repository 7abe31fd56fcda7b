"""Fill a bottleneck cache: every image that was never seen goes through the trunk, once."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from fastcls import files
from fastcls.cache.store import Cache, Failure
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.errors import DataError, WorkerError
from fastcls.extraction.executors import run_inline, run_processes
from fastcls.extraction.planner import Plan, make_plan, prepare_cache
from fastcls.extraction.worker import ShardInfo, WorkerSpec
from fastcls.specs import CutSpec, ExtractConfig


@dataclass(frozen=True)
class Extraction:
    """Figures of one extraction, also kept as `extraction.json` in the cache.

    Attributes:
        data: Root of the data set, absolute.
        images: Samples of the data set.
        forwarded: Images that went through the trunk in this run.
        reused: Samples whose bottleneck was there already.
        failures: Samples without a bottleneck.
        shards: Shards written in this run.
        seconds: Time from plan to end.
    """

    data: str
    images: int
    forwarded: int
    reused: int
    failures: int
    shards: int
    seconds: float


def extract(
    dataset: Dataset,
    cut: CutSpec | Cut,
    root: Path,
    config: ExtractConfig | None = None,
    *,
    progress: bool = False,
) -> tuple[Cache, Extraction]:
    """Make sure that every image of a data set has its bottleneck.

    Args:
        dataset: The images.
        cut: What to forward them through.
        root: Folder of caches; the cache is a folder in it, named by base, cut and fingerprint.
        config: Workers, batch and shard size, bound on failures.
        progress: Show a bar on stderr.

    Returns:
        The cache and the figures of this run.

    Raises:
        OptionError: The base, layer or weights cannot be used.
        WorkerError: Too many failures, or workers that cannot live; finished shards are kept.
        DataError: Not a single image could be read.
    """
    config = config or ExtractConfig()
    started = time.monotonic()
    cache = prepare_cache(cut, Path(root))
    files.remove_leftovers(cache.shards_folder)
    plan = make_plan(dataset, cache, config.shard_size)
    ledger = _Ledger(cache, plan, config.max_failures)
    try:
        _run(plan, cache, config, ledger, progress)
    finally:
        ledger.save()
        files.remove_leftovers(cache.shards_folder)
    extraction = ledger.summary(dataset, time.monotonic() - started)
    files.write_json(cache.folder / "extraction.json", asdict(extraction))
    if dataset.samples and extraction.failures == extraction.images:
        raise DataError(f"Not one of {extraction.images} images could be read: {ledger.failures[0].reason}")
    return cache, extraction


def _run(plan: Plan, cache: Cache, config: ExtractConfig, ledger: _Ledger, progress: bool) -> None:
    if not plan.tasks:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // max(1, config.workers))
    spec = WorkerSpec(str(cache.folder.absolute()), config.batch_size, threads)
    total = sum(len(task.paths) for task in plan.tasks)
    with tqdm(total=total, unit="image", desc="extract", disable=not progress, smoothing=0.1) as bar:
        if config.workers:
            results = run_processes(plan.tasks, spec, config.workers, bar.update)
        else:
            results = run_inline(plan.tasks, spec, bar.update)
        for info in results:
            ledger.add(info)


class _Ledger:
    """What is known of each sample while shards come in."""

    def __init__(self, cache: Cache, plan: Plan, max_failures: int | None) -> None:
        self._cache = cache
        self._places = {row.path: place for place, row in enumerate(plan.rows)}
        self._rows = plan.rows
        self._stored = cache.samples()
        self._max_failures = max_failures
        self.failures: list[Failure] = list(plan.failures)
        self.forwarded = 0
        self.shards = 0
        self._save_rows()

    def add(self, info: ShardInfo) -> None:
        """Take in the result of a shard task."""
        self.forwarded += info.forwarded
        self.shards += info.path is not None
        for reading in info.readings:
            place = self._places[reading.path]
            self._rows[place] = replace(self._rows[place], digest=reading.digest, state=reading.state)
            if reading.reason:
                self.failures.append(reading.as_failure())
        if self._max_failures is not None and len(self.failures) > self._max_failures:
            raise WorkerError(
                f"{len(self.failures)} images could not be read, more than --max-failures "
                f"{self._max_failures}. They are listed in {self._cache.folder / 'failures.csv'}"
            )

    def save(self) -> None:
        """Write the tables beside the shards."""
        self._save_rows()
        self._cache.write_failures(sorted(self.failures, key=lambda failure: failure.path))

    def summary(self, dataset: Dataset, seconds: float) -> Extraction:
        """The figures of the run."""
        count, failed = len(self._rows), len(self.failures)
        return Extraction(
            data=str(dataset.root.absolute()),
            images=count,
            forwarded=self.forwarded,
            reused=count - self.forwarded - failed,
            failures=failed,
            shards=self.shards,
            seconds=round(seconds, 3),
        )

    def _save_rows(self) -> None:
        if self._rows != self._stored:
            self._cache.write_samples(self._rows)
            self._stored = list(self._rows)

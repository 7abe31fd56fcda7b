"""Fill a bottleneck cache: every image that was never seen goes through the trunk, once."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from fastcls import files
from fastcls.cache.store import Cache, Failure
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.engines import REFERENCE, find_engine
from fastcls.errors import DataError, WorkerError
from fastcls.extraction.executors import run_inline, run_processes
from fastcls.extraction.fidelity import require_fidelity
from fastcls.extraction.planner import Plan, make_plan, prepare_cache
from fastcls.extraction.worker import ShardInfo, WorkerSpec
from fastcls.specs import CutSpec, ExtractConfig

_SAVE_EVERY_S = 60


@dataclass(frozen=True)
class Extraction:
    """Figures of one extraction, also kept as `extraction.json` in the cache.

    Attributes:
        data: Root of the data set, absolute.
        images: Samples of the data set.
        forwarded: Images that got their bottleneck in this run.
        reused: Samples whose bottleneck was there already.
        failures: Samples that give no bottleneck.
        missing: Samples that an interrupted run has left to do.
        shards: Shards written in this run.
        seconds: Time from plan to end.
    """

    data: str
    images: int
    forwarded: int
    reused: int
    failures: int
    missing: int
    shards: int
    seconds: float


def extract(
    dataset: Dataset,
    cut: CutSpec | Cut,
    root: Path,
    config: ExtractConfig | None = None,
    *,
    engine: str | None = None,
    progress: bool = False,
) -> tuple[Cache, Extraction]:
    """Make sure that every image of a data set has its bottleneck.

    Args:
        dataset: The images.
        cut: What to forward them through.
        root: Folder of caches; the cache is a folder in it, named by base, cut and fingerprint.
        config: Workers, batch and shard size, bound on failures.
        engine: Runs the trunk in place of `config.engine`: "module:class" with the signature of
            `TensorFlowEngine`.
        progress: Show a bar on stderr.

    Returns:
        The cache and the figures of this run.

    Raises:
        OptionError: The base, layer or weights cannot be used.
        WorkerError: Too many failures, or workers that cannot live; finished shards are kept.
        DataError: Not a single image could be read.
        OSError: The cache cannot be written; finished shards are kept.
    """
    config = config or ExtractConfig()
    started = time.monotonic()
    with _named(Path(root)):
        cache = prepare_cache(cut, Path(root))
        _remove_leftovers(cache)
        plan = make_plan(dataset, cache, config.shard_size)
        ledger = _Ledger(dataset, cache, plan, config.max_failures, started)
        try:
            ledger.save()
            _run(ledger, config, engine or _trusted_engine(ledger, dataset, config.engine), progress)
        finally:
            _remove_leftovers(cache)
            ledger.save()
    done = ledger.figures()
    if dataset.samples and done.failures == done.images:
        raise DataError(f"Not one of {done.images} images could be read: {ledger.failures[0].reason}")
    return cache, done


def _run(ledger: _Ledger, config: ExtractConfig, engine: str, progress: bool) -> None:
    tasks = ledger.plan.tasks
    ledger.require_few_failures()
    if not tasks:
        return
    threads = max(1, _cores() // max(1, config.workers))
    spec = WorkerSpec(ledger.cache.folder.absolute(), config.batch_size, threads, engine)
    with tqdm(total=ledger.plan.missing, unit="image", desc="extract", disable=not progress) as bar:

        def advance(images: int) -> None:
            if not bar.n:
                bar.reset()  # the rate counts from when the first engine is loaded
            bar.update(images)

        if config.workers:
            results = run_processes(tasks, spec, config.workers, advance)
        else:
            results = run_inline(tasks, spec, advance)
        with contextlib.closing(results):  # whatever happens, the workers end here
            for info in results:
                ledger.add(info)


def _trusted_engine(ledger: _Ledger, dataset: Dataset, name: str) -> str:
    """The engine asked for, after its bottlenecks have been compared with those of the reference."""
    engine = find_engine(name, ledger.cache.manifest.precision)
    if ledger.plan.tasks and engine != REFERENCE:
        require_fidelity(ledger.cache, name, engine, [dataset.locate(sample) for sample in dataset.samples])
    return engine


class _Ledger:
    """What is known of each sample while shards come in, and the tables that say so."""

    def __init__(
        self, dataset: Dataset, cache: Cache, plan: Plan, max_failures: int | None, started: float
    ) -> None:
        self.cache = cache
        self.plan = plan
        self.failures: list[Failure] = list(plan.failures)
        self._root = str(dataset.root.absolute())
        self._max_failures = max_failures
        self._places = {row.path: place for place, row in enumerate(plan.rows)} if plan.tasks else {}
        self._rows = plan.rows
        self._is_changed = plan.is_new
        self._missing = plan.missing
        self._forwarded = self._shards = 0
        self._started = self._saved = started

    def add(self, info: ShardInfo) -> None:
        """Take in the result of a shard task."""
        self._forwarded += info.forwarded
        self._shards += info.path is not None
        self._missing -= len(info.readings)
        self._is_changed = True
        for reading in info.readings:
            place = self._places[reading.path]
            self._rows[place] = replace(self._rows[place], digest=reading.digest, state=reading.state)
            if reading.reason:
                self.failures.append(reading.as_failure())
        self.require_few_failures()
        if time.monotonic() - self._saved > _SAVE_EVERY_S:
            self.save()

    def require_few_failures(self) -> None:
        """Raise WorkerError when there are more failures than allowed."""
        if self._max_failures is not None and len(self.failures) > self._max_failures:
            raise WorkerError(
                f"{len(self.failures)} images could not be read, more than --max-failures "
                f"{self._max_failures}. They are listed in {self.cache.folder / 'failures.csv'}"
            )

    def save(self) -> None:
        """Write the tables beside the shards, and the figures so far."""
        # First: it says which folder the table of samples speaks of.
        files.write_json(self.cache.folder / "extraction.json", asdict(self.figures()))
        if self._is_changed:
            self.cache.write_samples(self._rows)
            self._is_changed = False
        self.cache.write_failures(sorted(self.failures, key=lambda failure: failure.path))
        self._saved = time.monotonic()

    def figures(self) -> Extraction:
        """What has been done so far."""
        count, failed = len(self._rows), len(self.failures)
        return Extraction(
            data=self._root,
            images=count,
            forwarded=self._forwarded,
            reused=count - self._forwarded - failed - self._missing,
            failures=failed,
            missing=self._missing,
            shards=self._shards,
            seconds=round(time.monotonic() - self._started, 3),
        )


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Give a name to disk errors that have none, as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename or not error.errno:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error


def _remove_leftovers(cache: Cache) -> None:
    for folder in (cache.folder, cache.shards_folder):
        files.remove_leftovers(folder)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

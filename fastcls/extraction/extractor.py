"""Fill a bottleneck cache: every image that was never seen goes through the trunk, once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from fastcls import files
from fastcls.cache.store import Cache, Failure
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.errors import DataError, WorkerError
from fastcls.extraction.chooser import Choice, choose, divide
from fastcls.extraction.executors import run_inline, run_processes
from fastcls.extraction.planner import Plan, Requested, make_plan
from fastcls.extraction.worker import ShardInfo, WorkerSpec
from fastcls.specs import CutSpec, ExtractConfig, ViewSpec

_SAVE_EVERY_S = 60
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extraction:
    """Figures of one extraction, also kept as `extraction.json` in the cache.

    Attributes:
        data: Root of the data set, absolute.
        images: Samples of the data set.
        views: Views of each image to train on, with the plain one; the others have that alone.
        forwarded: Images that got a bottleneck in this run.
        rows: Bottlenecks that they got: one per view that was not there.
        reused: Samples whose bottlenecks were there already.
        failures: Samples that give no bottleneck.
        missing: Samples that an interrupted run has left to do.
        shards: Shards written in this run.
        seconds: Time from start to end.
        engine: Name of the engine, "" when there was nothing to do.
        crew: Who ran it, in words.
        fidelity: How near the engine comes to Keras in float32; None for TensorFlow in float32.
    """

    data: str
    images: int
    views: int
    forwarded: int
    rows: int
    reused: int
    failures: int
    missing: int
    shards: int
    seconds: float
    engine: str = ""
    crew: str = ""
    fidelity: dict[str, float] | None = None


def extract(
    dataset: Dataset,
    cut: CutSpec | Cut,
    root: Path,
    config: ExtractConfig | None = None,
    *,
    views: ViewSpec | None = None,
    engine: str | None = None,
    progress: bool = False,
) -> tuple[Cache, Extraction]:
    """Make sure that every image of a data set has its bottleneck.

    Args:
        dataset: The images.
        cut: What to forward them through.
        root: Folder of caches; the cache is a folder in it, named by base, cut and fingerprint.
        config: Workers, batch and shard size, bound on failures.
        views: Augmented views to have besides the plain one of each image of the split "train" or "".
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
        choice = _choose(dataset, Requested(cut, Path(root)), views or ViewSpec(), config, engine)
        cache = choice.cache
        cache.note_views(choice.plan.views)
        _remove_leftovers(cache)
        ledger = _Ledger(dataset, choice, config.max_failures, started)
        try:
            ledger.save()
            _run(ledger, choice, config, progress)
        finally:
            _remove_leftovers(cache)
            ledger.save()
    done = ledger.figures()
    if dataset.samples and done.failures == done.images:
        raise DataError(f"Not one of {done.images} images could be read: {ledger.failures[0].reason}")
    return cache, done


def _choose(
    dataset: Dataset, requested: Requested, views: ViewSpec, config: ExtractConfig, engine: str | None
) -> Choice:
    if not engine:
        return choose(requested, dataset, views, config.engine)
    cache = requested.known() or requested.open("float32")[0]
    requested.settle(cache)
    return Choice(cache, make_plan(dataset, cache, views), engine, engine)


def _run(ledger: _Ledger, choice: Choice, config: ExtractConfig, progress: bool) -> None:
    ledger.require_few_failures()
    if not choice.plan.missing:
        return
    crew = divide(config, choice)
    ledger.crew = str(crew)
    logger.info("%s: %s; %s", choice, crew, choice.fidelity or "the reference itself")
    tasks = choice.plan.tasks(config.shard_size, crew.batch_size, crew.workers)
    spec = WorkerSpec(
        choice.cache.folder.absolute(),
        crew.batch_size,
        crew.threads,
        choice.path,
        crew.gpus,
        config.compress,
    )
    with tqdm(total=len(choice.plan.missing), unit="image", desc="extract", disable=not progress) as bar:

        def advance(images: int) -> None:
            if not bar.n:
                bar.reset()  # the rate counts from when the first engine is loaded
            bar.update(images)

        if crew.workers:
            results = run_processes(tasks, spec, crew.workers, advance)
        else:
            results = run_inline(tasks, spec, advance)
        with contextlib.closing(results):  # whatever happens, the workers end here
            for info in results:
                ledger.add(info)


class _Ledger:
    """What is known of each sample while shards come in, and the tables that say so."""

    def __init__(self, dataset: Dataset, choice: Choice, max_failures: int | None, started: float) -> None:
        plan: Plan = choice.plan
        self.cache = choice.cache
        self.crew = ""
        self.failures: list[Failure] = list(plan.failures)
        self._choice = choice
        self._root = str(dataset.root.absolute())
        self._multi_label = dataset.multi_label
        self._max_failures = max_failures
        self._places = {row.path: place for place, row in enumerate(plan.rows)} if plan.missing else {}
        self._rows = plan.rows
        self._is_changed = plan.is_new
        self._missing = len(plan.missing)
        self._forwarded = self._new_rows = self._shards = 0
        self._started = self._saved = started

    def add(self, info: ShardInfo) -> None:
        """Take in the result of a shard task."""
        self._forwarded += info.forwarded
        self._new_rows += info.rows
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
            self.cache.write_samples(self._rows, multi_label=self._multi_label)
            self._is_changed = False
        self.cache.write_failures(sorted(self.failures, key=lambda failure: failure.path))
        self._saved = time.monotonic()

    def figures(self) -> Extraction:
        """What has been done so far."""
        count, failed = len(self._rows), len(self.failures)
        return Extraction(
            data=self._root,
            images=count,
            views=self._choice.plan.views.count,
            forwarded=self._forwarded,
            rows=self._new_rows,
            reused=count - self._forwarded - failed - self._missing,
            failures=failed,
            missing=self._missing,
            shards=self._shards,
            seconds=round(time.monotonic() - self._started, 3),
            engine=self._choice.engine,
            crew=self.crew,
            fidelity=asdict(self._choice.fidelity) if self._choice.fidelity else None,
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

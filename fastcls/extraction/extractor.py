"""Fill a bottleneck cache: every image that was never seen goes through the trunk, once."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from fastcls import files
from fastcls.cache.lease import Leases
from fastcls.cache.listing import Report
from fastcls.cache.samples import Failure
from fastcls.cache.store import Cache
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import affordable_pixels
from fastcls.errors import DataError, WorkerError
from fastcls.extraction.changes import describe_change
from fastcls.extraction.chooser import Choice, Target, choose, divide, take
from fastcls.extraction.executors import run_inline, run_processes
from fastcls.extraction.joint import request_all
from fastcls.extraction.planner import Order
from fastcls.extraction.worker import ShardInfo, WorkerSpec
from fastcls.files import PathLike
from fastcls.machine import cores
from fastcls.specs import CutSpec, ExtractConfig, ViewSpec

_SAVE_EVERY_S = 60
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extraction:
    """Figures of one extraction, also kept in the report of the data set in the cache.

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
    cut: CutSpec | Cut | PathLike,
    root: PathLike,
    config: ExtractConfig | None = None,
    *,
    views: ViewSpec | None = None,
    name: str | None = None,
    engine: str | None = None,
    progress: bool = False,
) -> tuple[Cache, Extraction]:
    """Make sure that every image of a data set has its bottleneck.

    Args:
        dataset: The images.
        cut: What to forward them through; the name of a base alone stands for its pooled output before the
            classifier.
        root: Folder of caches; the cache is a folder in it, named by base, cut and fingerprint.
        config: Workers, batch and shard size, bound on failures.
        views: Augmented views to have besides the plain one of each image of the split "train" or "".
        name: What the data set is called in the cache, which may serve several; its own name by default.
        engine: Runs the trunk in place of `config.engine`: "module:class" with the signature of
            `TensorFlowEngine`.
        progress: Show a bar on stderr.

    Returns:
        The cache, speaking of this data set, and the figures of this run.

    Raises:
        OptionError: The base, layer or weights cannot be used, or the root cannot be made.
        WorkerError: Too many failures, or workers that cannot live; finished shards are kept.
        DataError: Not a single image could be read.
        OSError: The cache cannot be written; finished shards are kept.
    """
    ((cache, done),) = extract_several(
        dataset, [cut], root, config, views=views, name=name, engine=engine, progress=progress
    )
    return cache, done


def extract_several(
    dataset: Dataset,
    cuts: Sequence[CutSpec | Cut | PathLike],
    root: PathLike,
    config: ExtractConfig | None = None,
    *,
    views: ViewSpec | None = None,
    name: str | None = None,
    engine: str | None = None,
    progress: bool = False,
) -> list[tuple[Cache, Extraction]]:
    """`extract` for several cuts of one base, in one forward pass per image.

    Each cut has the cache that it would have alone. An image of which all but one have their rows is
    forwarded for that one.

    Returns:
        The cache and its figures, for each cut.
    """
    config, root = config or ExtractConfig(), Path(root)
    started = time.monotonic()
    files.require_writable(root)
    order = Order(dataset, views or ViewSpec(), name)
    with _named(root), Leases() as leases:
        requests = request_all([_as_cut(cut) for cut in cuts], root)
        threads = max(cores(), config.workers or 0)
        config = replace(config, max_pixels=config.max_pixels or affordable_pixels(threads))
        if engine:
            choice = take(requests, order, root, leases, engine)
        else:
            choice = choose(requests, order, root, leases, config.engine, config.max_pixels)
        _announce(choice)
        ledgers = [
            _Ledger(dataset, choice, target, config.max_failures, started) for target in choice.targets
        ]
        for ledger in ledgers:
            _remove_leftovers(ledger.cache)
        try:
            for ledger in ledgers:
                ledger.save()
            _run(ledgers, choice, config, progress)
        finally:
            for ledger in ledgers:
                _remove_leftovers(ledger.cache)
                ledger.save()
    for ledger in ledgers:
        ledger.require_some_images()
    return [(ledger.cache, ledger.figures()) for ledger in ledgers]


def _as_cut(cut: CutSpec | Cut | PathLike) -> CutSpec | Cut:
    return cut if isinstance(cut, (CutSpec, Cut)) else CutSpec(os.fspath(cut))


def _announce(choice: Choice) -> None:
    """Say why images are forwarded again for a cache that is new, although one like it is there."""
    for target in choice.targets:
        change = describe_change(target.cache) if target.requested.is_new else ""
        if change:
            logger.warning(
                "%d images are to be forwarded for the new cache %s. %s",
                len(target.plan.missing),
                target.cache.folder,
                change,
            )


def _run(ledgers: Sequence[_Ledger], choice: Choice, config: ExtractConfig, progress: bool) -> None:
    for ledger in ledgers:
        ledger.require_few_failures()
    filled = [ledger for ledger in ledgers if ledger.is_filled]
    if not filled:
        return
    crew = divide(config, choice)
    for ledger in filled:
        ledger.crew = str(crew)
        logger.info("%s: %s; %s", choice, crew, choice.fidelity(ledger.target) or "the reference itself")
    tasks = choice.work.tasks(config.shard_size, crew.batch_size, crew.workers)
    spec = WorkerSpec(
        tuple(ledger.cache.folder.absolute() for ledger in filled),
        choice.trunk.path.absolute(),
        crew.batch_size,
        crew.threads,
        choice.path,
        crew.gpus,
        config.compress,
        config.max_pixels,
    )
    with tqdm(total=len(choice.work.images), unit="image", desc="extract", disable=not progress) as bar:

        def advance(images: int) -> None:
            if not bar.n:
                bar.reset()  # the rate counts from when the first engine is loaded
            bar.update(images)

        if crew.workers:
            results = run_processes(tasks, spec, crew.workers, advance)
        else:
            results = run_inline(tasks, spec, advance)
        with contextlib.closing(results):  # whatever happens, the workers end here
            for infos in results:
                for ledger, info in zip(filled, infos, strict=True):
                    ledger.add(info)


class _Ledger:
    """What is known of each sample of a cache while shards come in, and the tables that say so."""

    def __init__(
        self, dataset: Dataset, choice: Choice, target: Target, max_failures: int | None, started: float
    ) -> None:
        plan = target.plan
        self.cache, self.target = target.cache, target
        self.is_filled = bool(plan.missing)
        self.crew = ""
        self.failures: list[Failure] = list(plan.failures)
        self._choice = choice
        self._dataset = dataset
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
                f"{self._max_failures}. They are listed in {self.cache.listing.failures_path}"
            )

    def require_some_images(self) -> None:
        """Raise DataError when not one image has a bottleneck."""
        if self._rows and len(self.failures) == len(self._rows):
            fact = f"Not one of {len(self._rows)} images could be read"
            raise DataError(f"{fact}: {self.failures[0].reason}")

    def save(self) -> None:
        """Write the tables beside the shards, and the figures so far."""
        report = Report(
            data=str(self._dataset.origin),
            root=str(self._dataset.root.absolute()),
            multi_label=self._dataset.multi_label,
            views=self._choice.work.views,
            extraction=asdict(self.figures()),
        )
        failures = sorted(self.failures, key=lambda failure: failure.path)
        self.cache.listing.write(report, self._rows if self._is_changed else None, failures)
        self._is_changed = False
        self._saved = time.monotonic()

    def figures(self) -> Extraction:
        """What has been done so far."""
        count, failed = len(self._rows), len(self.failures)
        fidelity = self._choice.fidelity(self.target) if self.is_filled else None
        return Extraction(
            data=str(self._dataset.root.absolute()),
            images=count,
            views=self._choice.work.views.count,
            forwarded=self._forwarded,
            rows=self._new_rows,
            reused=count - self._forwarded - failed - self._missing,
            failures=failed,
            missing=self._missing,
            shards=self._shards,
            seconds=round(time.monotonic() - self._started, 3),
            engine=self._choice.engine if self.is_filled else "",
            crew=self.crew,
            fidelity=asdict(fidelity) if fidelity else None,
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
    listing = cache.listing
    for folder in (
        cache.folder,
        cache.shards_folder,
        listing.samples_path.parent,
        listing.failures_path.parent,
    ):
        files.remove_leftovers(folder)

"""Fill a bottleneck cache: every image that was never seen goes through the trunk, once."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from fastcls.cache import mirror
from fastcls.cache.lease import Leases
from fastcls.cache.store import Cache
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import affordable_pixels
from fastcls.engines import engine_class
from fastcls.errors import ConversionError, OptionError
from fastcls.extraction.changes import describe_change
from fastcls.extraction.coverage import ViewedDataset
from fastcls.extraction.early import early_executor
from fastcls.extraction.engine_choice import Candidate, Obstacle, explain
from fastcls.extraction.executors.base import Executor, find_executor
from fastcls.extraction.executors.board import close_boards, renew_boards
from fastcls.extraction.fidelity import InfidelityError
from fastcls.extraction.filling import Filling, Target, open_filling
from fastcls.extraction.named_tasks import named_tasks
from fastcls.extraction.planner import ExtractionPlan, make_plan, renew
from fastcls.extraction.resources import Resources, allocate
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.tracker import Extraction, Tracker, remove_leftovers
from fastcls.extraction.trial import require_trusted
from fastcls.extraction.worker import WorkerSpec
from fastcls.files import PathLike
from fastcls.machine import cores
from fastcls.specs import EXECUTORS, CutSpec, ExtractConfig, ViewSpec, as_list
from fastcls.specs.options import as_spec
from fastcls.wording import count_of

logger = logging.getLogger(__name__)


def extract(
    dataset: Dataset | PathLike,
    cut: CutSpec | Cut | PathLike,
    root: PathLike,
    config: ExtractConfig | None = None,
    *,
    views: ViewSpec | None = None,
    name: str | None = None,
    progress: bool = False,
) -> tuple[Cache, Extraction]:
    """Make sure that every image of a data set has its bottleneck.

    Args:
        dataset: The images, or their path as `Dataset.open` takes it.
        cut: What to forward them through; the name of a base alone stands for its pooled output before the
            classifier.
        root: Folder of caches, or its URL; the cache is a folder in it, named by base, cut and fingerprint.
        config: Engine, executor, batch and shard size, bound on failures.
        views: Augmented views to have besides the plain one of each image of the split "train" or "".
        name: What the data set is called in the cache, which may serve several; its own name by default.
        progress: Show a bar on stderr.

    Returns:
        The cache, speaking of this data set, and the figures of this run.

    Raises:
        OptionError: The base, layer or weights cannot be used, or the root cannot be made.
        WorkerError: Too many failures, or workers that keep crashing; finished shards are kept.
        DataError: Not a single image could be used.
        OSError: The cache cannot be written; finished shards are kept.
    """
    ((cache, done),) = extract_several(
        dataset, [cut], root, config, views=views, name=name, progress=progress
    )
    return cache, done


def extract_several(
    dataset: Dataset | PathLike,
    cuts: Sequence[CutSpec | Cut | PathLike],
    root: PathLike,
    config: ExtractConfig | None = None,
    *,
    views: ViewSpec | None = None,
    name: str | None = None,
    progress: bool = False,
) -> list[tuple[Cache, Extraction]]:
    """`extract` for several cuts of one base, in one forward pass per image.

    Each cut has the cache that it would have alone. An image of which all but one have their rows is
    forwarded for that one.

    Returns:
        The cache and its figures, for each cut.
    """
    started, root = time.monotonic(), mirror.opened(root, "root")
    config, several = as_spec(ExtractConfig, config, "config"), as_list(cuts, "cuts", CutSpec, Cut, str, Path)
    viewed = ViewedDataset(Dataset.of(dataset), as_spec(ViewSpec, views, "views"), name)
    wanted = [_as_cut(cut) for cut in several]
    early = early_executor(viewed.dataset, wanted, root, config, viewed.views, name)
    with _named(root), early as executor, _leases(config) as leases:
        plan = make_plan(viewed, wanted, root, config, leases)
        plan.warn_of_conflicts()
        return _execute(plan, leases, started, progress, executor)


def extract_planned(
    plan: ExtractionPlan,
    *,
    executor: Executor | None = None,
    progress: bool = False,
    meanwhile: Callable[[Cache], None] = lambda cache: None,
) -> list[tuple[Cache, Extraction]]:
    """Execute a plan: engines are tried in its order, and what is missing is what is missing now.

    Args:
        plan: Of `plan_extraction`.
        executor: Of `early_executor`, which may have begun; by default the one that the plan names.
        progress: Show a bar on stderr.
        meanwhile: Called with the first cache once worker processes forward images, if there are any, to
            begin something else.

    Returns:
        The cache and its figures, for each cut.

    Raises:
        FastclsError, OSError: See `extract`.
    """
    started = time.monotonic()
    with _named(plan.root), _leases(plan.config) as leases:
        executor = executor or find_executor(plan.config)
        return _execute(renew(plan, leases), leases, started, progress, executor, meanwhile)


def _execute(
    plan: ExtractionPlan,
    leases: Leases,
    started: float,
    progress: bool,
    executor: Executor,
    meanwhile: Callable[[Cache], None] = lambda cache: None,
) -> list[tuple[Cache, Extraction]]:
    config = plan.config
    threads = max(cores(), config.workers or 0)
    config = replace(config, max_pixels=config.max_pixels or affordable_pixels(threads))
    filling, chosen = choose(plan, leases, config.max_pixels)
    kind = EXECUTORS[config.executor]
    if kind.shares_caches:
        _require_begun(plan, filling, chosen)
        renew_boards(leases.alone)
    _announce(filling)
    engine = chosen.engine if chosen else ""
    trackers = [
        Tracker(*(plan.viewed, target, engine, config.max_failures, started), is_shared=kind.shares_caches)
        for target in filling.targets
    ]
    for tracker in trackers:
        remove_leftovers(tracker.cache)
    for tracker in trackers:
        mirror.push(tracker.cache.folder)
    try:
        for tracker in trackers:
            tracker.save()
        for tracker in trackers:
            tracker.require_few_failures()
        leases.end_planning()
        if chosen:
            filled = [tracker for tracker in trackers if tracker.is_filled]
            _fill(filled, filling, chosen, config, progress, executor, meanwhile)
    finally:
        with leases.writing():
            for tracker in trackers:
                remove_leftovers(tracker.cache)
                tracker.save()
        for tracker in trackers:
            mirror.push(tracker.cache.folder, tables=True)
    for tracker in trackers:
        tracker.require_some_images()
    if kind.shares_caches:
        close_boards(leases.last())
    return [(tracker.cache, tracker.figures()) for tracker in trackers]


def _leases(config: ExtractConfig) -> Leases:
    return Leases(is_shared=EXECUTORS[config.executor].shares_caches)


def _require_begun(plan: ExtractionPlan, filling: Filling, chosen: Candidate | None) -> None:
    """Refuse another cache than the one that was begun: the machines that share it fill the same one.

    Raises:
        OptionError: This machine would fill another.
    """
    for cut, target in zip(plan.cuts, filling.targets, strict=True):
        if chosen and cut.cache and cut.cache.folder != target.cache.folder:
            begun = cut.cache.manifest
            layers = f" with {count_of(len(begun.float32_layers), 'layer')} in float32"
            raise OptionError(
                f"{cut.cache.folder} was begun in {begun.precision}{layers if begun.float32_layers else ''}, "
                f"which this machine ({socket.gethostname()}) cannot do: it would use {chosen}. Use machines "
                "of one kind, or --precision float32 on all of them"
            )


def choose(
    plan: ExtractionPlan, leases: Leases, max_pixels: int | None = None
) -> tuple[Filling, Candidate | None]:
    """Open the caches of the first candidate that can be trusted; None: nothing is missing there.

    Args:
        plan: The plan, made with the same leases.
        leases: Takes the caches.
        max_pixels: See `decoder.decode`.

    Raises:
        OptionError: No candidate is left.
    """
    if plan.is_complete:
        known = [cut.target for cut in plan.cuts if cut.target]
        return _settled(Filling.of(known, plan.viewed, plan.root)), None
    refused: dict[Candidate, Obstacle] = {}
    for candidate in plan.candidates:
        if not _is_worth_trying(candidate, refused):
            continue
        try:
            filling = _open_trusted(candidate, plan, leases, max_pixels)
        except (ConversionError, InfidelityError) as error:
            refused[candidate] = error
            continue
        if not filling.filled:  # another process was first
            return _settled(filling), None
        for refusal in refused.values():
            fact = refusal.fact if isinstance(refusal, InfidelityError) else refusal
            logger.warning("%s. Using %s instead", fact, candidate)
        return _settled(filling), candidate
    assert plan.asked
    raise explain(plan.asked, plan.machine, refused.values())


def _is_worth_trying(candidate: Candidate, refused: Mapping[Candidate, Obstacle]) -> bool:
    """Whether an engine may do what those before it could not: all engines of a precision round alike."""
    before = [error for other, error in refused.items() if other.precision == candidate.precision]
    if candidate.stands_in:
        return any(isinstance(error, ConversionError) for error in before)
    is_reference = engine_class(candidate.path).is_reference
    return is_reference or not any(isinstance(error, InfidelityError) for error in before)


def _open_trusted(
    candidate: Candidate, plan: ExtractionPlan, leases: Leases, max_pixels: int | None
) -> Filling:
    """Open the caches that an engine fills; what was made for one that cannot be trusted is removed.

    Raises:
        ConversionError: It cannot convert the trunk.
        InfidelityError: Its rows are too far off.
    """
    cuts, known = [cut.caches for cut in plan.cuts], [cut.target for cut in plan.cuts]
    filling = open_filling(cuts, known, candidate, plan.viewed, plan.root, leases)
    try:
        if filling.filled:
            require_trusted(candidate, filling, plan.viewed.dataset, max_pixels)
    except (ConversionError, InfidelityError):
        filling.discard(leases)
        raise
    return filling


def _settled(filling: Filling) -> Filling:
    filling.remember()
    return filling


def _as_cut(cut: CutSpec | Cut | PathLike) -> CutSpec | Cut:
    return cut if isinstance(cut, Cut) else as_spec(CutSpec, cut, "cut", named=True)


def _announce(filling: Filling) -> None:
    """Say what is unexpected of what is to be done."""
    for target in filling.filled:
        _announce_new(target)
    for note in filter(None, (target.note for target in filling.targets)):
        logger.warning(note)


def _announce_new(target: Target) -> None:
    """Say why images are forwarded again for a cache that is new, although one like it is there."""
    change = describe_change(target.cache) if target.caches.is_new else ""
    if change:
        logger.warning(
            "Forwarding %s for the new cache %s. %s",
            count_of(len(target.coverage.missing), "image"),
            target.cache.folder,
            change,
        )


def _spec(
    trackers: Sequence[Tracker],
    filling: Filling,
    chosen: Candidate,
    config: ExtractConfig,
    resources: Resources,
) -> WorkerSpec:
    """What each worker needs to know."""
    return WorkerSpec(
        tuple(mirror.place_of(tracker.cache.folder) for tracker in trackers),
        mirror.place_of(filling.trunk.path),
        resources.batch_size,
        resources.threads,
        chosen.path,
        resources.gpus,
        config.compress,
        config.max_pixels,
    )


def _fill(
    trackers: Sequence[Tracker],
    filling: Filling,
    chosen: Candidate,
    config: ExtractConfig,
    progress: bool,
    executor: Executor,
    meanwhile: Callable[[Cache], None],
) -> None:
    resources = allocate(
        config,
        engine_class(chosen.path),
        rows=filling.work.rows,
        trunk_bytes=filling.trunk.path.stat().st_size,
        has_workers=EXECUTORS[config.executor].has_workers,
    )
    for tracker in trackers:
        tracker.resources = str(resources)
        logger.info("%s: %s; %s", chosen, resources, tracker.fidelity or "the reference itself")
    if EXECUTORS[config.executor].is_cluster:
        mirror.push_engines(filling.trunk.path)
    tasks = _tasks(filling, config, resources)
    spec = _spec(trackers, filling, chosen, config, resources)
    is_begun = False
    with tqdm(total=len(filling.work.images), unit="image", desc="extract", disable=not progress) as bar:

        def advance(images: int) -> None:
            nonlocal is_begun
            if not is_begun:
                is_begun = True
                for tracker in trackers:
                    tracker.begin()
                bar.reset()  # the rate counts from when the first engine is loaded
                if EXECUTORS[config.executor].has_workers:
                    meanwhile(trackers[0].cache)
            bar.update(images)

        results = executor.run(tasks, spec, resources.workers, advance)
        with contextlib.closing(results):  # whatever happens, the workers end here
            for infos in results:
                for tracker, info in zip(trackers, infos, strict=True):
                    tracker.add(info)


def _tasks(filling: Filling, config: ExtractConfig, resources: Resources) -> list[ShardTask]:
    if EXECUTORS[config.executor].has_named_tasks:
        return named_tasks(filling, config.shard_size)
    return filling.work.tasks(config.shard_size, resources.batch_size, resources.workers)


@contextlib.contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Give a name to disk errors that have none, as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename or not error.errno:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error

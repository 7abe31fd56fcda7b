"""Start workers early: while the trunk is built and converted, the other cores read the first images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import affordable_pixels
from fastcls.engines import Engine
from fastcls.engines.devices import has_driver
from fastcls.errors import FastclsError
from fastcls.extraction.caches import CutCaches
from fastcls.extraction.executors import Executor, find_executor
from fastcls.extraction.read_ahead import ReadAhead
from fastcls.extraction.resources import allocate
from fastcls.extraction.shard_tasks import Wanted, Work
from fastcls.machine import available_memory, cores
from fastcls.specs import ENGINES, EXECUTORS, CutSpec, ExtractConfig, ViewSpec

_FEWEST = 128  # images: fewer are read in the time that starting workers takes
_MOST = 20_000  # of more, the start is a small part
_BYTES = 256 << 20
_MEMORY_SHARE = 8


@contextlib.contextmanager
def early_executor(
    dataset: Dataset,
    cuts: Sequence[CutSpec | Cut],
    root: Path,
    config: ExtractConfig | None = None,
    views: ViewSpec | None = None,
    *,
    is_dry: bool = False,
) -> Iterator[Executor]:
    """An executor whose workers may have read images already when they get their tasks.

    What they read is a guess: that all images are missing where there is no cache yet. The rows do not depend
    on it. All workers have ended when the context does.

    Args:
        dataset: The images.
        cuts: What they are to be forwarded through.
        root: Folder of caches.
        config: How the extraction runs.
        views: What each image to train on is to have.
        is_dry: Start nothing.
    """
    config = config or ExtractConfig()
    executor = find_executor(config.executor)
    try:
        with contextlib.suppress(FastclsError, OSError):  # the plan says what is wrong
            if not is_dry and EXECUTORS[config.executor].has_workers and _is_worthwhile(dataset):
                executor.read_ahead(_orders(dataset, cuts, root, config, views or ViewSpec()))
        yield executor
    finally:
        executor.stop()


def _is_worthwhile(dataset: Dataset) -> bool:
    return _FEWEST <= len(dataset.samples) <= _MOST and cores() > 1 and not has_driver()


def _orders(
    dataset: Dataset, cuts: Sequence[CutSpec | Cut], root: Path, config: ExtractConfig, views: ViewSpec
) -> list[ReadAhead]:
    """What each worker is to read; nothing where a cache is there, or only the base tells the size."""
    caches = [CutCaches(cut, root) for cut in cuts]
    rule = caches[0].told_pixels
    if not rule or any(each.known() for each in caches):
        return []
    wanted = [Wanted(s.path, views.of_split(s.split), views.of_split(s.split)) for s in dataset.samples]
    work = Work.of(dataset.root.absolute(), [wanted], views)
    resources = allocate(config, Engine, rows=work.rows, trunk_bytes=0, has_workers=True)
    tasks = work.tasks(config.shard_size, resources.batch_size, resources.workers)
    shares = [tasks[place :: resources.workers] for place in range(min(resources.workers, len(tasks)))]
    name = config.engine if config.engine in ENGINES else next(iter(ENGINES))
    return [
        ReadAhead(
            work.root,
            tuple(image.path for task in share for image in task.images),
            rule,
            config.max_pixels or affordable_pixels(cores()),
            min(_BYTES, available_memory() // _MEMORY_SHARE) // len(shares),
            resources.threads,
            ENGINES[name]["float32"],
        )
        for share in shares
    ]

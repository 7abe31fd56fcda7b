"""Start workers early: while the trunk is built and converted, the other cores read the first images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fastcls.cache.listing import choose_listing
from fastcls.cache.store import Cache
from fastcls.cutter import Cut
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import affordable_pixels
from fastcls.engines import Engine
from fastcls.engines.devices import has_driver
from fastcls.errors import CacheError, FastclsError
from fastcls.extraction.caches import CutCaches
from fastcls.extraction.coverage import ViewedDataset
from fastcls.extraction.executors.base import Executor, find_executor
from fastcls.extraction.read_ahead import ReadAhead
from fastcls.extraction.resources import allocate, require_room
from fastcls.extraction.shard_tasks import Wanted, Work
from fastcls.machine import available_memory, cores
from fastcls.specs import ENGINES, EXECUTORS, CutSpec, ExtractConfig, ViewSpec

_MOST = 20_000  # images: of more, the start is a small part
_BYTES = 256 << 20
_MEMORY_SHARE = 8


@contextlib.contextmanager
def early_executor(
    dataset: Dataset,
    cuts: Sequence[CutSpec | Cut],
    root: Path,
    config: ExtractConfig | None = None,
    views: ViewSpec | None = None,
    name: str | None = None,
    *,
    is_dry: bool = False,
) -> Iterator[Executor]:
    """An executor whose workers may have read images already when they get their tasks.

    What they read is a guess: that all images are missing where no cache has a table of this data set. Where
    its table has fewer images than the data set, one worker starts, and reads nothing before it is told to.
    The rows do not depend on the guess. All workers have ended when the context does.

    Args:
        dataset: The images.
        cuts: What they are to be forwarded through.
        root: Folder of caches.
        config: How the extraction runs.
        views: What each image to train on is to have.
        name: What the data set is called in the cache; its own name by default.
        is_dry: Start nothing.
    """
    config = config or ExtractConfig()
    executor = find_executor(config)
    try:
        with contextlib.suppress(FastclsError, OSError):  # the plan says what is wrong
            if not is_dry and EXECUTORS[config.executor].has_workers and _is_worthwhile(dataset):
                executor.read_ahead(
                    _orders(ViewedDataset(dataset, views or ViewSpec(), name), cuts, root, config)
                )
        yield executor
    finally:
        executor.stop()


def _is_worthwhile(dataset: Dataset) -> bool:
    return len(dataset.samples) <= _MOST and cores() > 1 and not has_driver()


def _orders(
    viewed: ViewedDataset, cuts: Sequence[CutSpec | Cut], root: Path, config: ExtractConfig
) -> list[ReadAhead]:
    """What each worker is to read; nothing where all may be known, or where only the base tells the size."""
    caches = [CutCaches(cut, root) for cut in cuts]
    rule, total = caches[0].told_pixels, len(viewed.dataset.samples)
    listed = min(_count_listed(viewed, each.known()) for each in caches)
    if not rule or listed >= total:
        return []
    max_pixels = config.max_pixels or affordable_pixels(cores())
    name = config.engine if config.engine in ENGINES else next(iter(ENGINES))
    nothing = ReadAhead(viewed.dataset.root.absolute(), (), rule, max_pixels, 0, 1, ENGINES[name]["float32"])
    return [nothing] if listed else _shared_out(viewed, config, nothing)


def _shared_out(viewed: ViewedDataset, config: ExtractConfig, nothing: ReadAhead) -> list[ReadAhead]:
    """The images of the tasks that each worker will probably get."""
    require_room(config)
    samples, views = viewed.dataset.samples, viewed.views
    wanted = [Wanted(s.path, views.of_split(s.split), views.of_split(s.split)) for s in samples]
    work = Work.of(nothing.root, [wanted], views)
    resources = allocate(config, Engine, rows=work.rows, trunk_bytes=0, has_workers=True)
    tasks = work.tasks(config.shard_size, resources.batch_size, resources.workers)
    shares = [tasks[place :: resources.workers] for place in range(min(resources.workers, len(tasks)))]
    most_bytes = min(_BYTES, available_memory() // _MEMORY_SHARE) // max(1, len(shares))
    return [
        replace(
            nothing,
            paths=tuple(image.path for task in share for image in task.images),
            most_bytes=most_bytes,
            threads=resources.threads,
        )
        for share in shares
    ]


def _count_listed(viewed: ViewedDataset, cache: Cache | None) -> int:
    """How many images the table of the data set has in a cache."""
    with contextlib.suppress(CacheError):
        name, origin = viewed.name or viewed.dataset.name, viewed.dataset.origin
        if cache:
            return choose_listing(cache.folder, name, origin, is_asked=False).report().samples.lines
    return 0

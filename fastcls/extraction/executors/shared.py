"""Machines that see the same cache share the tasks of a data set: each runs the same command."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import fastcls
from fastcls import files
from fastcls.extraction.executors.base import Executor
from fastcls.extraction.executors.board import FOLDER, Board
from fastcls.extraction.executors.places import place_of
from fastcls.extraction.executors.pool import Pool
from fastcls.extraction.executors.share import Share
from fastcls.extraction.executors.throughput import Throughput
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, WorkerSpec
from fastcls.specs import ExtractConfig, ViewSpec
from fastcls.specs.options import options_of
from fastcls.wording import count_of


class SharedExecutor(Executor):
    """Runs those of the tasks that no other machine runs, in worker processes; waits for the others.

    The tasks must be those of `named_tasks`: they have the same names on every machine.
    """

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """See `Executor`."""
        board = Board(place_of(spec.caches[0], FOLDER))
        pool, throughput = Pool(spec, workers), Throughput()
        share = Share(tasks, spec, board, throughput, workers, on_progress)
        try:
            with board.joined(_in_common(tasks, self._config)):
                while not share.is_done:
                    pool.assign(share.take)
                    for task, results in pool.gather(on_progress, share.patience_s):
                        yield from share.finish(task, results)
                    yield from share.look()
                board.close()
        finally:
            pool.stop()
            throughput.log()


def _in_common(tasks: Sequence[ShardTask], config: ExtractConfig) -> dict[str, str]:
    """What must be the same on all machines, as it is told where it is not."""
    names = sorted(image.path for task in tasks for image in task.images)
    digest = files.digest("\0".join(names).encode("utf-8", "surrogateescape"))[:8]
    views = tasks[0].views
    augmentation = ("augment", "view_seed") if views.views > 1 else ()
    return {
        "version": f"fastcls {fastcls.__version__}",
        "images": f"{count_of(len(names), 'image')} (paths {digest})",
        "shard_size": options_of(ExtractConfig)["shard_size"].spell(config.shard_size),
        **{name: options_of(ViewSpec)[name].spell(getattr(views, name)) for name in ("views", *augmentation)},
    }

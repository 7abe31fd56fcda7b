"""Worker processes on this machine run the tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from fastcls.extraction.executors.base import Executor
from fastcls.extraction.executors.pool import Member, Pool
from fastcls.extraction.read_ahead import ReadAhead
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, WorkerSpec
from fastcls.specs import ExtractConfig


class ProcessExecutor(Executor):
    """Runs tasks in a `Pool` of worker processes."""

    def __init__(self, config: ExtractConfig | None = None) -> None:
        super().__init__(config)
        self._early: list[Member] = []

    def read_ahead(self, orders: Sequence[ReadAhead]) -> None:
        """See `Executor`."""
        for place, order in enumerate(orders):
            self._early.append(Member(place, gpus=0))
            self._early[-1].read_ahead(order)

    def stop(self) -> None:
        """See `Executor`."""
        while self._early:
            self._early.pop().stop()

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """See `Executor`."""
        pool, waiting = Pool(spec, workers), [*tasks]

        def take(has_read: Callable[[ShardTask], bool]) -> ShardTask | None:
            """The first task whose images the worker has read, else the first."""
            place = next((n for n, task in enumerate(waiting) if has_read(task)), 0)
            return waiting.pop(place) if waiting else None

        try:
            while self._early:
                pool.take_over(self._early.pop(0))
            while pool.assign(take):
                for _, results in pool.gather(on_progress):
                    yield results
        finally:
            pool.stop()

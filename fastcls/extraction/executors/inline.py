"""This process runs the tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from fastcls.extraction.executors.base import Executor
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, Worker, WorkerSpec


class InlineExecutor(Executor):
    """Runs tasks in this process, one after the other."""

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """See `Executor`; a crash ends this process."""
        worker = Worker(spec, on_progress)
        for task in tasks:
            yield worker.run(task)

"""What every executor is. The rows do not depend on who runs the tasks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from fastcls.extraction.read_ahead import ReadAhead
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, WorkerSpec
from fastcls.optional import resolve
from fastcls.specs import EXECUTORS, ExtractConfig


class Executor:
    """Runs shard tasks. `specs.EXECUTORS` is the table of those that there are.

    Args:
        config: How the extraction runs.
    """

    def __init__(self, config: ExtractConfig | None = None) -> None:
        self._config = config or ExtractConfig()

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """Run tasks, and yield the results of each as they come; whoever closes it ends the work.

        Args:
            tasks: What to run.
            spec: What each worker needs to know.
            workers: How many processes; 0 where there are none, or where the executor decides.
            on_progress: Called with the number of images that are done since the last call; with 0 when an
                engine is loaded.

        Raises:
            WorkerError: The workers cannot start, or keep crashing, or their engine fails.
            OSError: A worker cannot write, for instance because the disk is full.
        """
        raise NotImplementedError

    def read_ahead(self, orders: Sequence[ReadAhead]) -> None:
        """Begin to read images of a run to come, one order for each worker; by default nothing happens."""

    def stop(self) -> None:
        """End what `read_ahead` began and no run has taken over."""


def find_executor(config: ExtractConfig) -> Executor:
    """The executor that is asked for."""
    made: Executor = resolve(EXECUTORS[config.executor].path)(config)
    return made

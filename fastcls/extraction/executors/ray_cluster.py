"""Actors of a Ray cluster run the tasks; what is lost with a node is run again."""

from __future__ import annotations

import logging
import pickle
import signal
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastcls
from fastcls.errors import OptionError, WorkerError
from fastcls.extraction.executors.base import Executor
from fastcls.extraction.executors.pool import set_aside
from fastcls.extraction.executors.ray_actor import Actor
from fastcls.extraction.executors.records import nothing
from fastcls.extraction.executors.throughput import Throughput
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, WorkerSpec
from fastcls.optional import require
from fastcls.specs import ExtractConfig

_CPUS, _CPUS_GPU, _GPUS = 1, 4, 0.25  # of an actor
_WAIT_S = 1.0
_ANSWER_S = 5.0
_GROW_S = 5.0  # how often new nodes are looked for
_PATIENCE_S = 30  # until it is said that no actor starts
_FATAL_DEATHS = 8  # per actor, without one task done in between
# When a task takes as many times longer than usual, another actor that has nothing to do runs it too.
_SLOW = 2.0
_SLOW_S = 5.0
_TOKEN = "If it asks for a token, copy ~/.ray/auth_token from its first node, and set RAY_AUTH_MODE=token"
logger = logging.getLogger(__name__)


class RayExecutor(Executor):
    """Runs tasks by actors of a Ray cluster, at most one task each at a time.

    A task that is run twice gives one shard, as its name is that of the task; the first to end counts. One
    that ends two actors is halved until the image that does it is found, which becomes a failure.
    """

    def __init__(self, config: ExtractConfig | None = None) -> None:
        super().__init__(config)
        self._ray: Any = require("ray", purpose="--executor ray", extra="ray")
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            self._connect(self._config.address)

    def _connect(self, address: str) -> None:
        ends = signal.getsignal(signal.SIGTERM)  # Ray would end this process its own way
        logging.getLogger("ray").setLevel(logging.ERROR)  # else it tells of its tokens each time
        host, _, port = address.rpartition("//")[2].rpartition(":")
        try:
            if host and port.isdigit():  # Ray tries for two minutes
                socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
            self._ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (OSError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OptionError(
                f"No Ray cluster can be reached. Received: --address {address}. Start one with: "
                f"ray start --head; and on other nodes: ray start --address HOST:6379. {_TOKEN}. "
                f"Ray says: {reason}"
            ) from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)

    def stop(self) -> None:
        """See `Executor`."""
        if self._is_own:
            self._ray.shutdown()

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """See `Executor`."""
        lacking = [task for task in map(ShardTask.lacking, tasks) if task]
        for _ in range(len(tasks) - len(lacking)):
            yield nothing(spec)
        crew = _Crew(self._ray, lacking, spec, workers, on_progress)
        try:
            while not crew.is_done:
                crew.assign()
                yield from crew.gather()
        finally:
            crew.end()
            self.stop()


@dataclass
class _Job:
    """A task that an actor is at."""

    actor: Any
    task: ShardTask
    started: float = field(default_factory=time.monotonic)


class _Crew:
    """The actors of a run, and its tasks."""

    def __init__(
        self,
        ray: Any,
        tasks: Sequence[ShardTask],
        spec: WorkerSpec,
        workers: int,
        on_progress: Callable[[int], Any],
    ) -> None:
        self._ray, self._spec, self._workers, self._on_progress = ray, spec, workers, on_progress
        self._root = folder_of(tasks[0]) if tasks else ""
        self._waiting = deque(tasks)
        self._open = {task.name: task for task in tasks}
        self._halved: set[str] = set()  # tasks that may end actors
        self._actors: list[Any] = []
        self._idle: list[Any] = []
        self._checks: dict[Any, Any] = {}
        self._jobs: dict[Any, _Job] = {}
        self._took: list[float] = []
        self._grown = float("-inf")
        self._deaths = 0
        self._throughput = Throughput()
        self._warned_at = time.monotonic() + _PATIENCE_S

    @property
    def is_done(self) -> bool:
        """Whether every task has its results."""
        return not self._open

    def assign(self) -> None:
        """Start actors as the cluster has room for them, and give tasks to those that have none."""
        if time.monotonic() - self._grown > _GROW_S:
            self._grow()
            self._grown = time.monotonic()
        while self._idle and (task := self._next()):
            actor = self._idle.pop()
            self._jobs[actor.run.remote(pickle.dumps(task))] = _Job(actor, task)

    def gather(self) -> Iterator[Results]:
        """Wait for actors, and yield the results of tasks that are done."""
        calls = [*self._checks, *self._jobs]
        ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(calls, timeout=_WAIT_S)
        if not self._idle and not self._jobs and not ready and time.monotonic() > self._warned_at:
            self._warned_at = float("inf")
            logger.warning("The cluster has had no room for an actor for %d s. Waiting", _PATIENCE_S)
        for call in ready:
            if call in self._checks:
                self._take_check(call, self._checks.pop(call))
            else:
                yield from self._take_results(call, self._jobs.pop(call))

    def end(self) -> None:
        """End the actors, which may be in the middle of a shard, and say what each node has done."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._throughput.log()

    def _grow(self) -> None:
        cpus = _CPUS_GPU if self._spec.gpus else _CPUS
        room = int(self._ray.cluster_resources().get("CPU", 0) // cpus)
        wanted = self._workers or max(1, min(room, len(self._open)))
        kind = self._ray.remote(Actor).options(
            num_cpus=cpus, num_gpus=_GPUS if self._spec.gpus else 0, max_restarts=-1, max_task_retries=1
        )
        while len(self._actors) < wanted:
            actor = kind.remote(fastcls.__version__, pickle.dumps(self._spec), self._root)
            self._actors.append(actor)
            self._checks[actor.check.remote()] = actor

    def _next(self) -> ShardTask | None:
        """The next task that waits; if none does, one that takes too long."""
        while self._waiting:
            task = self._waiting.popleft()
            if task.name in self._open:
                return task
        usual = statistics.median(self._took) if self._took else float("inf")
        running = [job.task.name for job in self._jobs.values()]
        for job in self._jobs.values():
            name, since = job.task.name, time.monotonic() - job.started
            is_slow = since > max(_SLOW_S, _SLOW * usual)
            if is_slow and running.count(name) == 1 and name in self._open and name not in self._halved:
                return job.task
        return None

    def _take_check(self, call: Any, actor: Any) -> None:
        try:
            host, problem = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._note_death(error)
            self._checks[actor.check.remote()] = actor
            return
        if problem:
            raise WorkerError(f"The node {host} cannot take part: {problem}")
        self._idle.append(actor)
        self._on_progress(0)

    def _take_results(self, call: Any, job: _Job) -> Iterator[Results]:
        try:
            host, seconds, outcome = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._note_death(error)
            self._checks[job.actor.check.remote()] = job.actor  # it starts again, perhaps on another node
            yield from self._halve(job.task, error)
            return
        self._idle.append(job.actor)
        if isinstance(outcome, Exception):
            raise outcome
        if job.task.name in self._open:
            self._deaths = 0
            self._took.append(seconds)
            self._throughput.add(host, len(job.task.images), seconds / len(self._actors))
            yield self._close(job.task, outcome)

    def _close(self, task: ShardTask, results: Results) -> Results:
        del self._open[task.name]
        self._on_progress(len(task.images))
        return results

    def _halve(self, task: ShardTask, error: Exception) -> Iterator[Results]:
        """Go on after a task has ended an actor twice: halve it, or make a failure of its only image."""
        if task.name not in self._open or any(job.task.name == task.name for job in self._jobs.values()):
            return
        if len(task.images) == 1:
            reason = f"crashes the worker: {_first_line(error)}"
            yield self._close(task, set_aside(task, reason, self._spec, is_final=False))
            return
        del self._open[task.name]
        for half in task.halves():
            self._halved.add(half.name)
            self._open[half.name] = half
            self._waiting.append(half)

    def _note_death(self, error: Exception) -> None:
        self._deaths += 1
        if self._deaths > _FATAL_DEATHS * len(self._actors):
            raise WorkerError(
                f"Actors of the Ray cluster keep ending: {_first_line(error)}. Finished shards are kept"
            ) from error


def folder_of(task: ShardTask) -> str:
    """Where every node must find the images."""
    return str(task.root)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]

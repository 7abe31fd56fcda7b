"""Who runs shard tasks: this process, or local worker processes. The rows are the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from fastcls import processes
from fastcls.errors import WorkerError
from fastcls.extraction.read_ahead import ReadAhead
from fastcls.extraction.reading import identify
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, ShardInfo, Worker, WorkerSpec
from fastcls.optional import resolve
from fastcls.specs import EXECUTORS

# This many crashes per worker without one image done in between are not the fault of images.
_FATAL_DEATHS = 8
_ENDED_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_OUT_OF_MEMORY = "the machine may have run out of memory: try a smaller --batch-size or fewer --workers"


class Executor:
    """Runs shard tasks. `specs.EXECUTORS` is the table of those that there are."""

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """Run tasks, and yield their results as they come; whoever closes it ends the work.

        Args:
            tasks: What to run.
            spec: What each worker needs to know.
            workers: How many processes; 0 where there are none.
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


def find_executor(name: str) -> Executor:
    """The executor of a name."""
    made: Executor = resolve(EXECUTORS[name].path)()
    return made


class InlineExecutor(Executor):
    """Runs tasks in this process, one after the other."""

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """See `Executor`; a crash ends this process."""
        worker = Worker(spec, on_progress)
        for task in tasks:
            yield worker.run(task)


class ProcessExecutor(Executor):
    """Runs tasks in worker processes.

    A process that dies costs its task, which is tried again; a task that kills a second process is
    halved until the one image that does it is found, which becomes a failure.
    """

    def __init__(self) -> None:
        self._early: list[_Member] = []

    def read_ahead(self, orders: Sequence[ReadAhead]) -> None:
        """See `Executor`."""
        for place, order in enumerate(orders):
            self._early.append(_Member(place, gpus=0))
            self._early[-1].read_ahead(order)

    def stop(self) -> None:
        """See `Executor`."""
        while self._early:
            self._early.pop().stop()

    def run(
        self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], Any]
    ) -> Generator[Results, None, None]:
        """See `Executor`."""
        pool = _Pool(tasks, spec, workers)
        try:
            while self._early:
                pool.take_over(self._early.pop(0))
            yield from pool.results(on_progress)
        finally:
            pool.stop()


class _Pool:
    """Worker processes, and the tasks that wait for one."""

    def __init__(self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int) -> None:
        self._spec = spec
        self._workers = workers
        self._waiting = deque(tasks)
        self._suspect: set[ShardTask] = set()  # have killed a process
        self._members: dict[Connection[Any, Any], _Member] = {}
        self._deaths = 0

    def take_over(self, member: _Member) -> None:
        """Use a process that has read ahead, if it lives and is one of those that the run is to have."""
        if member.place < self._workers and not self._spec.gpus and member.is_alive:
            self._admit(member)
        else:
            member.stop()

    def results(self, on_progress: Callable[[int], Any]) -> Iterator[Results]:
        """Results as they come; returns when every task has one."""
        while self._assign():
            for connection in wait(list(self._members)):
                member = self._members[connection]  # type: ignore[index]
                try:
                    event, value = member.connection.recv()
                except (EOFError, OSError):
                    yield from self._bury(member)
                    continue
                if event == "progress":
                    self._deaths = 0 if value else self._deaths
                    on_progress(value)
                elif event == "done":
                    member.task = None
                    yield value
                elif event == "ready":
                    member.is_ready = True
                else:
                    raise value

    def stop(self) -> None:
        """Kill the processes, which may be in the middle of a shard: nothing half-written can appear."""
        for member in self._members.values():
            member.stop()

    def _assign(self) -> bool:
        """Give waiting tasks to idle members, new ones if need be; whether anybody is at work."""
        idle = [member for member in self._members.values() if not member.task]
        while self._waiting and (idle or len(self._members) < self._workers):
            member = idle.pop(0) if idle else self._hire()
            member.give(self._next_for(member))
        return any(member.task for member in self._members.values())

    def _hire(self) -> _Member:
        taken = {member.place for member in self._members.values()}
        return self._admit(_Member(min(set(range(self._workers)) - taken), self._spec.gpus))

    def _admit(self, member: _Member) -> _Member:
        self._members[member.connection] = member
        member.begin(self._spec)
        return member

    def _next_for(self, member: _Member) -> ShardTask:
        """The first task whose images the member has read, else the first."""
        place = next((n for n, task in enumerate(self._waiting) if member.has_read(task)), 0)
        task = self._waiting[place]
        del self._waiting[place]
        return task

    def _bury(self, member: _Member) -> Iterator[Results]:
        """Decide what becomes of the task of a process that has died."""
        del self._members[member.connection]
        code, cause = member.last_words()
        member.stop()
        self._deaths += 1
        cannot_start = not member.is_ready and code > 0
        if cannot_start or self._deaths == _FATAL_DEATHS * self._workers:
            raise WorkerError(f"Extraction workers keep crashing: {cause}. Finished shards are kept")
        task = member.task
        if task is None:
            return
        if task not in self._suspect:
            self._suspect.add(task)
            self._waiting.append(task)
        elif len(task.images) > 1:
            halves = task.halves()
            self._suspect.update(halves)
            self._waiting.extend(halves)
        else:
            yield _set_aside(task, code, cause, len(self._spec.caches))


class _Member:
    """One worker process and the task it is at."""

    def __init__(self, place: int, gpus: int) -> None:
        self.place = place  # among the members
        self.task: ShardTask | None = None
        self.is_ready = False
        self._ahead: frozenset[str] = frozenset()  # paths that it was to read
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        self.connection, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                processes.command("fastcls.extraction.worker", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=self._chatter,
                stderr=self._chatter,
                env=_environment(place, gpus),
                start_new_session=True,  # Ctrl-C reaches only the parent, which ends the workers in order
            )

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def read_ahead(self, order: ReadAhead) -> None:
        """Let it read images until it gets its spec."""
        self._ahead = frozenset(order.paths)
        self._send(order)

    def has_read(self, task: ShardTask) -> bool:
        """Whether it was to read the images of a task."""
        return task.images[0].path in self._ahead

    def begin(self, spec: WorkerSpec) -> None:
        """Tell it what it needs to know besides its tasks."""
        self._send(spec)

    def give(self, task: ShardTask) -> None:
        """Hand it a task."""
        self.task = task
        self._send(task)

    def last_words(self) -> tuple[int, str]:
        """Exit code of a process whose connection has ended, and why it died."""
        code = self._process.wait()
        self._chatter.seek(0)
        return code, _cause(code, self._chatter.read())

    def stop(self) -> None:
        """End the process, dead or alive."""
        self._process.kill()
        self._process.wait()
        self.connection.close()
        self._chatter.close()

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has died: the next `recv` says so
            self.connection.send(message)


def _environment(place: int, gpus: int) -> dict[str, str]:
    environment = processes.environment()
    if gpus:  # one each, of those that this process may use
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[place % gpus]
    return environment


def _cause(code: int, chatter: bytes) -> str:
    if code == -signal.SIGKILL:
        return f"killed by SIGKILL ({_OUT_OF_MEMORY})"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = chatter.decode(errors="replace").strip().splitlines()
    return f"ended with exit code {code}: {lines[-1] if lines else 'no message'}"


def _set_aside(task: ShardTask, code: int, cause: str, caches: int) -> Results:
    (image,) = task.images
    reading, _ = identify(task.root, image.path)
    if -code in _ENDED_FROM_OUTSIDE:
        reading = replace(reading, digest="")  # perhaps not the image's fault: the next run tries it again
    reading = replace(reading, reason=f"crashes the worker: {cause}")
    return tuple(ShardInfo(None, 0, 0, (reading,) * (place in image.caches)) for place in range(caches))

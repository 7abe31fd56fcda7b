"""Worker processes on this machine, and the tasks that they are at."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

from fastcls import processes
from fastcls.errors import WorkerError
from fastcls.extraction.read_ahead import ReadAhead
from fastcls.extraction.reading import identify
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, ShardInfo, WorkerSpec

# This many crashes per worker without one image done in between are not the fault of images.
_FATAL_DEATHS = 8
_ENDED_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_OUT_OF_MEMORY = "the machine may have run out of memory: try a smaller --batch-size or fewer --workers"
# Finds the next task for a worker, given what tells whether that has read the images of one; None: none now.
Take: TypeAlias = Callable[[Callable[[ShardTask], bool]], ShardTask | None]


class Pool:
    """Worker processes that run shard tasks, as many as there may be.

    A process that dies costs its task, which is tried again; a task that kills a second process is
    halved until the one image that does it is found, which becomes a failure.

    Args:
        spec: What each worker needs to know.
        workers: How many there may be.
    """

    def __init__(self, spec: WorkerSpec, workers: int) -> None:
        self._spec = spec
        self._workers = workers
        self._again: deque[ShardTask] = deque()  # have killed a process
        self._suspect: set[ShardTask] = set()
        self._members: dict[Connection[Any, Any], Member] = {}
        self._deaths = 0

    def take_over(self, member: Member) -> None:
        """Use a process that has read ahead, if it lives and is one of those that the run is to have."""
        if member.place < self._workers and not self._spec.gpus and member.is_alive:
            self._admit(member)
        else:
            member.stop()

    def assign(self, take: Take) -> bool:
        """Give tasks to idle workers, and to new ones as long as there may be more.

        Args:
            take: Finds the next task.

        Returns:
            Whether anybody is at work.
        """
        while (idle := self._idle) or len(self._members) < self._workers:
            task = take(idle[0].has_read if idle else _has_read_nothing)
            task = task or (self._again.popleft() if self._again else None)
            if not task:
                break
            (idle[0] if idle else self._hire()).give(task)
        return len(self._members) > len(self._idle)

    def gather(
        self, on_progress: Callable[[int], Any], timeout_s: float | None = None
    ) -> Iterator[tuple[ShardTask, Results]]:
        """Wait for workers to say something, and yield the tasks, or halves of such, that are done.

        Args:
            on_progress: See `Executor.run`.
            timeout_s: How long to wait at most; None as long as it takes.
        """
        for connection in wait(list(self._members), timeout_s):
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
                task, member.task = member.task, None
                assert task
                yield task, value
            elif event == "ready":
                member.is_ready = True
            else:
                raise value

    def stop(self) -> None:
        """Kill the processes, which may be in the middle of a shard: nothing half-written can appear."""
        for member in self._members.values():
            member.stop()

    @property
    def _idle(self) -> list[Member]:
        return [member for member in self._members.values() if not member.task]

    def _hire(self) -> Member:
        taken = {member.place for member in self._members.values()}
        return self._admit(Member(min(set(range(self._workers)) - taken), self._spec.gpus))

    def _admit(self, member: Member) -> Member:
        self._members[member.connection] = member
        member.begin(self._spec)
        return member

    def _bury(self, member: Member) -> Iterator[tuple[ShardTask, Results]]:
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
            self._again.append(task)
        elif len(task.images) > 1:
            halves = task.halves()
            self._suspect.update(halves)
            self._again.extend(halves)
        else:
            is_own_fault = -code not in _ENDED_FROM_OUTSIDE
            yield task, set_aside(task, f"crashes the worker: {cause}", self._spec, is_final=is_own_fault)


class Member:
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


def set_aside(task: ShardTask, reason: str, spec: WorkerSpec, *, is_final: bool) -> Results:
    """What comes of a task whose images are failures for a reason that is not in their bytes.

    Args:
        task: The task.
        reason: Why none of its images gives a bottleneck.
        spec: Of the workers.
        is_final: Whether that is the fault of the images: if not, the next run tries them again.
    """
    failed = {}
    for image in task.images:
        reading, _ = identify(task.root, image.path)
        failed[image.path] = replace(reading, digest=reading.digest if is_final else "", reason=reason)
    return tuple(
        ShardInfo(None, 0, 0, tuple(failed[image.path] for image in task.images if place in image.caches))
        for place in range(len(spec.caches))
    )


def _has_read_nothing(task: ShardTask) -> bool:
    return False

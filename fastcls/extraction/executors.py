"""Who runs shard tasks: this process, or local worker processes. Same tasks, same shards, same bytes."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from fastcls.cache.samples import FileState
from fastcls.errors import WorkerError
from fastcls.extraction.planner import ShardTask
from fastcls.extraction.worker import Reading, ShardInfo, Worker, WorkerSpec, info_from_json

# With no task finished in between, so many deaths mean that the workers themselves cannot live.
_FATAL_DEATHS = 32
_OUT_OF_MEMORY = "perhaps the machine ran out of memory: try a smaller --batch-size or fewer --workers"


def run_inline(
    tasks: Sequence[ShardTask], spec: WorkerSpec, on_progress: Callable[[int], None]
) -> Iterator[ShardInfo]:
    """Run tasks in this process, one after the other."""
    worker = Worker(spec)
    for task in tasks:
        yield worker.run(task, on_progress)


def run_processes(
    tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int, on_progress: Callable[[int], None]
) -> Iterator[ShardInfo]:
    """Run tasks in worker processes.

    A process that dies costs its task, which is tried again; a task that kills a second process is
    halved until the one image that does it is found, which becomes a failure.

    Raises:
        WorkerError: The workers cannot start, or keep dying.
        OSError: A worker cannot write, for instance because the disk is full.
    """
    with _Crew(tasks, spec, workers) as crew:
        yield from crew.results(on_progress)


class _Crew:
    """Worker processes, each served by a thread that hands it tasks and collects its answers."""

    def __init__(self, tasks: Sequence[ShardTask], spec: WorkerSpec, workers: int) -> None:
        self._spec = spec
        self._tasks: queue.SimpleQueue[tuple[ShardTask, int] | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._open = len(tasks)
        self._deaths = 0
        for task in tasks:
            self._tasks.put((task, 1))
        self._members = [_Member(self) for _ in range(min(workers, len(tasks)))]

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            self._tasks.put(None)
            member.stop()

    def results(self, on_progress: Callable[[int], None]) -> Iterator[ShardInfo]:
        """Results as they come; returns when every task has one."""
        while self._open:
            event, value = self._events.get()
            if event == "progress":
                on_progress(value)
            elif event == "done":
                self._open -= 1
                self._deaths = 0
                yield value
            elif event == "died":
                yield from self._after_death(*value)
            else:
                raise value

    def serve(self, member: _Member) -> None:
        """Thread of one member: hand it tasks until there are none."""
        while (waiting := self._tasks.get()) is not None:
            task, attempt = waiting
            try:
                for event in member.work(task):
                    self._events.put(event)
            except _DiedError as death:
                self._events.put(("died", (task, attempt, death)))
            except Exception as error:
                self._events.put(("error", error))
                return

    @property
    def spec(self) -> WorkerSpec:
        """What the workers need to know."""
        return self._spec

    def _after_death(self, task: ShardTask, attempt: int, death: _DiedError) -> Iterator[ShardInfo]:
        self._deaths += 1
        if not death.was_ready or self._deaths == _FATAL_DEATHS:
            raise WorkerError(f"The extraction workers cannot live: {death}. Finished shards are kept")
        if attempt == 1:
            self._tasks.put((task, 2))
        elif len(task.paths) == 1:
            self._open -= 1
            yield _set_aside(task, death)
        else:
            self._open += 1
            middle = len(task.paths) // 2
            for paths in (task.paths[:middle], task.paths[middle:]):
                self._tasks.put((ShardTask(task.root, paths), 2))


class _DiedError(Exception):
    """A worker process ended without an answer."""

    def __init__(self, cause: str, *, was_ready: bool) -> None:
        super().__init__(cause)
        self.was_ready = was_ready


class _Member:
    """One worker process, started when there is work and again when it has died."""

    def __init__(self, crew: _Crew) -> None:
        self._spec = crew.spec
        self._process: subprocess.Popen[str] | None = None
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 (closed in stop)
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=crew.serve, args=(self,), daemon=True)
        self._thread.start()

    def work(self, task: ShardTask) -> Iterator[tuple[str, Any]]:
        """Events of one task: ("progress", images) and at last ("done", ShardInfo)."""
        process = self._process or self._start()
        try:
            _send(process, asdict(task))
            while True:
                answer = _receive(process)
                if answer["event"] == "done":
                    yield "done", info_from_json(answer["info"])
                    return
                _raise_errors(answer)
                yield "progress", answer["images"]
        except (EOFError, BrokenPipeError) as error:
            self._process = None
            raise _DiedError(self._cause(process), was_ready=True) from error

    def stop(self) -> None:
        """Kill the process, which may be in the middle of a shard: nothing half-written can appear."""
        self._is_stopping.set()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._thread.join(timeout=10)
        self._chatter.close()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fastcls.extraction.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
            text=True,
            start_new_session=True,  # Ctrl-C reaches only the parent, which ends the workers in order
        )
        self._process = process
        if self._is_stopping.is_set():
            process.kill()
        try:
            _send(process, asdict(self._spec))
            _raise_errors(_receive(process))
        except (EOFError, BrokenPipeError) as error:
            self._process = None
            raise _DiedError(self._cause(process), was_ready=False) from error
        return process

    def _cause(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        if code == -signal.SIGKILL:
            return f"killed by SIGKILL ({_OUT_OF_MEMORY})"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        self._chatter.seek(0)
        lines = self._chatter.read().decode(errors="replace").strip().splitlines()
        return f"ended with exit code {code}: {lines[-1] if lines else 'no message'}"


def _send(process: subprocess.Popen[str], value: Any) -> None:
    pipe: Any = process.stdin
    pipe.write(json.dumps(value) + "\n")
    pipe.flush()


def _receive(process: subprocess.Popen[str]) -> dict[str, Any]:
    pipe: Any = process.stdout
    line = pipe.readline()
    if not line.endswith("\n"):
        raise EOFError
    answer: dict[str, Any] = json.loads(line)
    return answer


def _raise_errors(answer: dict[str, Any]) -> None:
    if answer["event"] != "error":
        return
    if answer["errno"]:
        raise OSError(answer["errno"], answer["message"])
    raise WorkerError(answer["message"])


def _set_aside(task: ShardTask, death: _DiedError) -> ShardInfo:
    reading = Reading(task.paths[0], "", FileState(), f"crashes the worker: {death}")
    return ShardInfo(None, 0, (reading,))

"""The tasks of a run that several machines share, as one of the machines sees them."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastcls.cache import mirror, shard
from fastcls.cache.store import Cache
from fastcls.errors import CacheError
from fastcls.extraction.executors.board import Board
from fastcls.extraction.executors.pool import set_aside
from fastcls.extraction.executors.records import as_record, merged, nothing, read_record, restricted
from fastcls.extraction.executors.throughput import Throughput
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.extraction.worker import Results, WorkerSpec
from fastcls.wording import count_of

_WAIT_S = 0.5  # between looks at the board, of a machine that waits for others
_LOOK_S = 10.0  # of one that has work
_MOST_CLAIMS = 5  # a task that so many have begun and not ended is given up


@dataclass
class _Mine:
    """A task that this machine is at.

    Attributes:
        left: How many of its images are not done.
        is_claimed: Whether others leave it to this machine; not so what others have done in part.
        parts: What has come of it.
        started: When it was begun.
    """

    left: int
    is_claimed: bool
    parts: list[Results] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)


class Share:
    """Which tasks this machine is to run, and what came of all of them.

    Args:
        tasks: All tasks of the run.
        spec: Of this machine's workers.
        board: Where the machines say what they do.
        throughput: Hears what each machine has done.
        workers: How many run tasks side by side.
        on_progress: See `Executor.run`.
    """

    def __init__(
        self,
        tasks: Sequence[ShardTask],
        spec: WorkerSpec,
        board: Board,
        throughput: Throughput,
        workers: int,
        on_progress: Callable[[int], Any],
    ) -> None:
        self._spec, self._board, self._throughput, self._workers = spec, board, throughput, workers
        self._on_progress = on_progress
        caches = [Cache(folder) for folder in spec.caches]
        self._shards = [(cache.shards_folder, cache.manifest.fingerprint) for cache in caches]
        lacking = [task.lacking() for task in board.shuffled(tasks)]
        self._open = {task.name: task for task in lacking if task}
        self._needless = lacking.count(None)
        self._mine: dict[str, _Mine] = {}
        self._rest: deque[ShardTask] = deque()  # of tasks that others have done
        self._untried: deque[tuple[str, int]] = deque()
        self._arrived: list[str] = []
        self._looked = float("-inf")

    @property
    def is_done(self) -> bool:
        """Whether every task has its results."""
        return not self._open and not self._needless

    @property
    def patience_s(self) -> float:
        """How long workers may be waited for before `look`."""
        return max(0.0, min(_WAIT_S, self._looked + _WAIT_S - time.monotonic()))

    def take(self, has_read: Callable[[ShardTask], bool]) -> ShardTask | None:
        """The next task that no other machine is at; None if there is none now."""
        if self._rest:
            return self._rest.popleft()
        while self._untried:
            name, number = self._untried.popleft()
            if name not in self._open or name in self._mine or not self._board.claim(name, number):
                continue
            if self._board.record(name) is None:
                self._mine[name] = _Mine(len(self._open[name].images), is_claimed=True)
                return self._open[name]
            self._board.drop(name)  # the claim could be made as the task is done
            self._arrived.append(name)
        return None

    def finish(self, task: ShardTask, results: Results) -> Iterator[Results]:
        """Take in what came of a task of this machine, or of a half of one; its results when it is whole."""
        name = task.name.partition("-")[0]
        mine = self._mine[name]
        mine.parts.append(results)
        mine.left -= len(task.images)
        if mine.left:
            return
        del self._mine[name]
        results = merged(mine.parts)
        if mine.is_claimed:
            seconds = (time.monotonic() - mine.started) / self._workers
            self._board.publish(name, as_record(results, self._board.host, seconds))
            self._board.drop(name)
            yield from self._deliver(name, is_told=True)  # another machine may have been first
        else:
            del self._open[name]
            yield results

    def look(self) -> Iterator[Results]:
        """The results of tasks that others have done, and of such that need nothing."""
        while self._needless:
            self._needless -= 1
            yield nothing(self._spec)
        arrived, self._arrived = self._arrived, []
        if time.monotonic() - self._looked >= (_LOOK_S if self._untried else _WAIT_S):
            arrived += self._survey()
            self._looked = time.monotonic()
        for name in dict.fromkeys(arrived):
            yield from self._deliver(name)

    def _survey(self) -> Iterator[str]:
        """Find out what has become of the tasks that this machine is not at; yields those that are done."""
        look, queued = self._board.look(), {*self._untried}
        for name in [name for name in self._open if name not in self._mine]:
            number = look.claims.get(name, 0)
            if name in look.done:
                yield name
            elif number and not self._board.is_abandoned(name, number):
                continue
            elif number >= _MOST_CLAIMS:
                self._give_up(name, number)
                yield name
            elif (name, number + 1) not in queued:
                self._untried.append((name, number + 1))

    def _deliver(self, name: str, *, is_told: bool = False) -> Iterator[Results]:
        """The results of a task that is done, unless something of it is left to this machine."""
        record = self._board.record(name)
        results = self._read(record) if record else None
        if not record or not results:
            self._board.forget(name)
            self._untried.append((name, 1))
            return
        results, rest = restricted(results, self._open[name])
        count = max(len(info.readings) for info in results)
        self._throughput.add(record["host"], count, record["seconds"])
        if not is_told:
            self._on_progress(count)
        if rest:
            self._mine[name] = _Mine(len(rest.images), is_claimed=False, parts=[results])
            self._rest.append(rest)
            return
        del self._open[name]
        yield results

    def _read(self, record: Mapping[str, Any]) -> Results | None:
        """The results of a record; None where it cannot be read, or a shard that it names."""
        with contextlib.suppress(CacheError, KeyError, TypeError, ValueError):
            results = read_record(record, [folder for folder, _ in self._shards])
            for info, (_, fingerprint) in zip(results, self._shards, strict=True):
                if info.path and mirror.url_of(info.path) is None:  # else it would be fetched
                    shard.read_digests(info.path, fingerprint)
            return results
        return None

    def _give_up(self, name: str, number: int) -> None:
        """Make failures of the images of a task that ends whoever is at it; the next run tries them again."""
        hosts = ", ".join(self._board.claimants(name, number))
        reason = f"its task was not ended in {count_of(number, 'trial')} ({hosts}), which were killed perhaps"
        results = set_aside(self._open[name], reason, self._spec, is_final=False)
        self._board.publish(name, as_record(results, self._board.host, 0.0))

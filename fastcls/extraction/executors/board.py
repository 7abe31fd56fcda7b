"""Where machines that share a cache say what they do: small files in a folder of it; there is no server.

CACHE/tasks/run.json       what all of them have in common, from the first
CACHE/tasks/TASK.json      what came of a task, from whoever was first
CACHE/tasks/TASK.claim.N   who is at it; N counts those that took it over
CACHE/tasks/WHO.beat       a number that rises as long as that machine is at work

A file is created only if it is not there, in one step, with its content. No clock of two machines is
compared: a claim is given up when whoever waits for it has seen no beat for some time, by its own clock.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.errors import OptionError
from fastcls.extraction.executors.places import Place, place_of
from fastcls.extraction.shard_tasks import ShardTask
from fastcls.records import as_json, made

BEAT_S = 5.0
# Above what network file systems may keep of a folder and its files (60 s of NFS).
EXPIRES_S = 90.0
FOLDER = "tasks"
_RUN = "run.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What was on a board at some time.

    Attributes:
        done: Tasks that have come to something.
        claims: The last claim of each task that somebody is at.
    """

    done: set[str]
    claims: dict[str, int]


@dataclass
class _Seen:
    """A claim, as it was when it was last seen to change."""

    sign: bytes | None
    since: float = field(default_factory=time.monotonic)


class Board:
    """A board, as one of the machines sees it.

    Args:
        place: Where its files are.
    """

    def __init__(self, place: Place) -> None:
        self.host = f"{socket.gethostname()}:{os.getpid()}"
        self._place = place
        self._own = secrets.token_hex(8)
        self._claims: dict[str, int] = {}
        self._watched: dict[str, _Seen] = {}
        self._owners: dict[str, str] = {}
        self._gone: set[str] = set()
        self._ended = threading.Event()

    @contextlib.contextmanager
    def joined(self, run: Mapping[str, str]) -> Iterator[None]:
        """Be seen at work until the context ends; what is claimed then is free for others.

        Args:
            run: What the machines must have in common, in words.

        Raises:
            OptionError: The others have something else.
        """
        self._require_same({**run, "host": self.host})
        self._beat(0)
        beating = threading.Thread(target=self._keep_beating, daemon=True)
        beating.start()
        try:
            yield
        finally:
            self._ended.set()
            beating.join()
            for name in [*self._claims]:
                self.drop(name)
            self._place.remove(f"{self._own}.beat")

    def look(self) -> Look:
        """What there is now."""
        done: set[str] = set()
        claims: dict[str, int] = {}
        for entry in self._place.names():
            name, _, rest = entry.partition(".")
            if rest == "json" and entry != _RUN:
                done.add(name)
            elif rest.startswith("claim.") and (number := rest.removeprefix("claim.")).isdecimal():
                claims[name] = max(claims.get(name, 0), int(number))
        return Look(done, claims)

    def claim(self, name: str, number: int) -> bool:
        """Claim a task, as the first or after another who is gone; returns whether nobody was quicker."""
        told = {"host": self.host, "pid": os.getpid(), "who": self._own}
        if not self._place.create(_claim(name, number), json.dumps(told).encode()):
            return False
        self._claims[name] = number
        return True

    def claimants(self, name: str, number: int) -> list[str]:
        """The machines that have claimed a task, sorted."""
        told = [_values(self._place.read(_claim(name, each))) for each in range(1, number + 1)]
        return sorted({str(values["host"]) for values in told if "host" in values})

    def shuffled(self, tasks: Sequence[ShardTask]) -> list[ShardTask]:
        """The tasks, from one on that is another on each machine: they seldom want the same one."""
        start = int(self._own, 16) % max(1, len(tasks))
        return [*tasks[start:], *tasks[:start]]

    def drop(self, name: str) -> None:
        """Withdraw a claim, with those before it."""
        for number in range(self._claims.pop(name, 0), 0, -1):
            self._place.remove(_claim(name, number))

    def is_abandoned(self, name: str, number: int) -> bool:
        """Whether nothing has been heard of who claimed a task, for so long that another may take it over."""
        claim = _claim(name, number)
        if claim not in self._owners:
            told = self._place.read(claim)
            if told is None:  # it is withdrawn
                return False
            self._owners[claim] = str(_values(told).get("who"))  # of a damaged one, nobody, who does not beat
        sign = self._place.read(f"{self._owners[claim]}.beat")
        seen = self._watched.setdefault(claim, _Seen(sign))
        if seen.sign != sign:
            self._watched[claim] = _Seen(sign)
        if time.monotonic() - self._watched[claim].since <= EXPIRES_S:
            return False
        self._gone.add(self._owners[claim])
        return True

    def publish(self, name: str, record: Mapping[str, Any]) -> bool:
        """Say what came of a task, unless that has been said; returns whether it had not."""
        kept = as_json(record)
        return self._place.create(f"{name}.json", json.dumps([kept, files.json_digest(kept)]).encode())

    def record(self, name: str) -> dict[str, Any] | None:
        """What came of a task; None if nothing has yet, or if that is damaged, which removes it."""
        data = self._place.read(f"{name}.json")
        if data is None:
            return None
        with contextlib.suppress(ValueError, TypeError):
            record, checksum = json.loads(data)
            if checksum == files.json_digest(record):
                return dict(record)
        self.forget(name)
        return None

    def forget(self, name: str) -> None:
        """Take back what came of a task: it is to be done again."""
        self._place.remove(f"{name}.json")

    def close(self) -> None:
        """Remove a board that no lock tells the last machine of: all is done, and no other machine beats."""
        names = self._place.names()
        at_work = {name.removesuffix(".beat") for name in names if name.endswith(".beat")}
        if not self._place.has_locks and at_work <= {self._own} | self._gone:
            for name in names:
                self._place.remove(name)

    def _require_same(self, own: Mapping[str, str]) -> None:
        if self._place.create(_RUN, json.dumps(own).encode()):
            return
        known: dict[str, str] = {}
        with contextlib.suppress(ValueError):
            known = made(dict[str, str], _values(self._place.read(_RUN)))
        if not known:
            raise OptionError(
                f"It is unknown what other machines that share the cache do: {_RUN} in {self._place} is "
                "damaged. End them, remove this folder, and start them again: no bottleneck is lost"
            )
        different = [key for key in own if key != "host" and own[key] != known.get(key)]
        if different:
            theirs, ours = (", ".join(of[key] for key in different if key in of) for of in (known, own))
            raise OptionError(
                "Machines that share a cache must run the same command, with the same version, on the same "
                f"images. {known.get('host')} has {theirs}; {self.host} has {ours}. Give the same on all, or "
                f"wait until the others have ended. If none is at work, remove {self._place}: no bottleneck "
                "is lost"
            )

    def _keep_beating(self) -> None:
        for number in range(1, 1 << 62):
            if self._ended.wait(BEAT_S):
                return
            with contextlib.suppress(OSError):  # whoever writes shards will say so
                self._beat(number)

    def _beat(self, number: int) -> None:
        self._place.write(f"{self._own}.beat", b"%020d" % number)


def renew_boards(caches: Iterable[Path]) -> None:
    """Remove from the boards of caches that nobody fills what keeps a new run from trying all tasks.

    What came of tasks stays, but where that depended on the machine.
    """
    for cache in caches:
        if (cache / FOLDER).is_dir():
            _renew(place_of(cache, FOLDER))


def close_boards(caches: Iterable[Path]) -> None:
    """Remove the boards of caches that nobody fills any more."""
    for cache in caches:
        shutil.rmtree(cache / FOLDER, ignore_errors=True)


def _renew(place: Place) -> None:
    for entry in place.names():
        is_result = entry.endswith(".json") and entry != _RUN
        if not is_result or b'"given_up": true' in (place.read(entry) or b""):
            place.remove(entry)


def _values(data: bytes | None) -> dict[str, Any]:
    """What a file of a board says; nothing where it is gone or damaged."""
    with contextlib.suppress(ValueError):
        values = json.loads(data or b"{}")
        return values if isinstance(values, dict) else {}
    return {}


def _claim(name: str, number: int) -> str:
    return f"{name}.claim.{number}"

"""A command as a process of its own, with all that it starts: watched, interrupted, and gone in the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from campaigns.forks import Ended

# Workers whose parent was killed notice at their next message.
ORPHANS_END_S = 20.0
_MARK = "CAMPAIGN_MARK"


class Process:
    """`python -m fastcls ARGUMENTS` in a folder, in a process group of its own.

    Args:
        arguments: Of the command.
        folder: Its working folder.
        environment: Variables to add.
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._begun = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastcls", *arguments],
            cwd=folder,
            env={**os.environ, **(environment or {}), _MARK: self._mark},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def is_running(self) -> bool:
        """Whether the command itself has not ended."""
        return self._process.poll() is None

    def send(self, number: signal.Signals, target: str) -> bool:
        """Send a signal to the "parent", to a "worker" or to "all"; whether there was anybody to get it."""
        parent, workers = self._process.pid, [pid for pid in self._members() if pid != self._process.pid]
        chosen = {"parent": [parent], "worker": workers[:1], "all": [parent, *workers]}[target]
        if not self.is_running or not chosen:
            return False
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return True

    def wait_for_worker(self) -> bool:
        """Wait until it has a worker; whether it has, before it ended."""
        while self.is_running:
            if len(self._members()) > 1:
                return True
            time.sleep(0.01)
        return False

    def finish(self, limit_s: float) -> Ended:
        """Wait until it has ended; stop it after the limit."""
        late = False
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            late = True
            self.kill()
        seconds = time.monotonic() - self._begun
        return Ended(self._process.returncode, _read(self._out), _read(self._err), seconds, late=late)

    def orphans(self) -> list[int]:
        """Processes that it has started and that do not end although it has ended; they are killed."""
        deadline = time.monotonic() + ORPHANS_END_S
        while (left := self._members()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()
        return left

    def kill(self) -> None:
        """Kill it and all that it has started."""
        for pid in {self._process.pid, *self._members()} if self.is_running else self._members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def _members(self) -> list[int]:
        """It and its descendants, known by a variable: workers have a session of their own."""
        wanted = f"{_MARK}={self._mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return sorted(found)


def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a command to its end."""
    return Process(arguments, folder, environment).finish(limit_s)


def _read(file: Any) -> str:
    with file:
        file.seek(0)
        return file.read().decode(errors="replace")

"""Run a function in a fresh process and measure it from outside: seconds and peak memory.

Every contender runs this way, so that none profits from what another has imported, and its memory is its own.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcls.errors import FastclsError

_SAMPLE_EVERY_S = 0.1
_SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """One run of a contender.

    Attributes:
        seconds: From the start of its process to the end.
        largest_mib: Peak resident memory of its largest process; 0 where the system does not tell.
        worker_mib: That of the largest but the first, which is the command itself.
        together_mib: Peak of the sum over its processes; pages that they share count for each.
        report: What it says of itself.
        skipped: Why it did not run; "" when it did.
    """

    seconds: float = 0.0
    largest_mib: float = 0.0
    worker_mib: float = 0.0
    together_mib: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)
    skipped: str = ""


def run_fresh(function: Callable[..., dict[str, Any]], **options: Any) -> Run:
    """Call a function of a module in a process of its own.

    Args:
        function: Returns what JSON can hold. One that raises ImportError or FastclsError is skipped.
        options: Its arguments, which JSON can hold.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as chatter:
        place = Path(folder)
        (place / "options.json").write_text(json.dumps(options), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "benchmarks.fresh",
            f"{function.__module__}:{function.__name__}",
            folder,
        ]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=_environment(), stdout=chatter, stderr=chatter)
        try:
            with _MemoryWatch(process.pid) as memory:
                code = process.wait()
        finally:
            process.kill()  # when this one is ended meanwhile; fastcls's workers follow
        seconds = time.perf_counter() - started
        if code:
            chatter.seek(0)
            lines = chatter.read().decode(errors="replace").strip().splitlines()
            return Run(skipped=f"exit code {code}: {lines[-1] if lines else 'no message'}")
        report = json.loads((place / "report.json").read_text(encoding="utf-8"))
    peaks = (memory.largest_mib, memory.worker_mib, memory.together_mib)
    return Run(seconds, *peaks, report, report.pop("skipped", ""))


def _environment() -> dict[str, str]:
    search = os.pathsep.join([str(_SCRIPTS), *(path or os.curdir for path in sys.path)])
    return {**os.environ, "PYTHONPATH": search, "TF_CPP_MIN_LOG_LEVEL": "3"}


class _MemoryWatch:
    """Samples the memory of a process and its descendants, by Linux's tables of processes."""

    def __init__(self, process: int) -> None:
        self.largest_mib = self.worker_mib = self.together_mib = 0.0
        self._process = process
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_SAMPLE_EVERY_S):
            tables = [_status(process) for process in _family(self._process)]
            peaks = [table.get("VmHWM:", 0) / 1024 for table in tables]
            self.largest_mib = max(self.largest_mib, *peaks)
            self.worker_mib = max(self.worker_mib, *peaks[1:], 0.0)
            together = sum(table.get("VmRSS:", 0) for table in tables) / 1024
            self.together_mib = max(self.together_mib, together)


def _family(process: int) -> Iterator[int]:
    yield process
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in _text(path).split():
            yield from _family(int(child))


def _status(process: int) -> dict[str, int]:
    words = (line.split() for line in _text(Path(f"/proc/{process}/status")).splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) == 3 and line[2] == "kB"}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # it has ended meanwhile
        return ""


def _main(name: str, folder: Path) -> None:
    module, _, function = name.partition(":")
    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    try:
        report = getattr(importlib.import_module(module), function)(**options)
    except (ImportError, FastclsError) as error:
        report = {"skipped": str(error)}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))

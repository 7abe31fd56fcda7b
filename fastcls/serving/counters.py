"""Counters in the text format of Prometheus, of one process or of all that serve together.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import numpy as np

_HELP = {
    "requests": "Answered requests, by path and status.",
    "images": "Images that were forwarded.",
    "unreadable_images": "Images that could not be read.",
    "batches": "Forward passes.",
    "forward_seconds": "Time of forward passes.",
}
_GAUGES = {
    "held_images": "Images that are decoded, wait or are forwarded.",
    "ready": "Processes whose classifier is loaded.",
}
_PATHS = ("/", "/explain", "/health", "/metadata", "/metrics", "/openapi.json", "/predict", "/ready", "other")
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BUCKETS = (*map(str, _BOUNDS), "+Inf")
_SECONDS = "fastcls_request_seconds"


def _request(path: str, status: int) -> str:
    return f'{{path="{path}",status="{status}"}}'


_NAMES = [
    *((name, "") for name in (*_HELP, *_GAUGES, "seconds") if name != "requests"),
    *(
        ("requests", _request(path, status))
        for path, status in itertools.product(_PATHS, map(int, HTTPStatus))
    ),
    *(("bucket", bound) for bound in _BUCKETS),
]
_PLACES = {name: place for place, name in enumerate(_NAMES)}


class Counters:
    """What a server has done since it was started.

    Args:
        folder: Where each process of a server keeps a file of its counters, mapped into its memory: any of
            them then tells of all. None for a server of one process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._lock, self._folder = threading.Lock(), folder
        self._values = np.zeros(len(_NAMES)) if folder is None else _mapped(folder)

    def add(self, name: str, amount: float = 1, labels: str = "") -> None:
        """Count; any thread may.

        Args:
            name: A key of the tables above.
            amount: 0 or more; of a gauge, any number.
            labels: As Prometheus writes them.
        """
        with self._lock:
            self._values[_PLACES[name, labels]] += amount

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.add("requests", labels=_request(path if path in _PATHS else "other", status))
        if path == "/predict":
            self.add("bucket", labels=_BUCKETS[sum(seconds > bound for bound in _BOUNDS)])
            self.add("seconds", seconds)

    def render(self) -> str:
        """All as text."""
        values = dict(zip(_NAMES, total(self._folder) if self._folder else self._values.copy(), strict=True))
        return "\n".join([*_counters(values), *_histogram(values), *_gauges(values), ""])

    def ready(self) -> int:
        """Processes whose classifier is loaded."""
        values = total(self._folder) if self._folder else self._values
        return int(values[_PLACES["ready", ""]])


def total(folder: Path) -> np.ndarray:
    """The counters of all processes that have a file in a folder, and the gauges of those that live."""
    found = np.zeros(len(_NAMES))
    for path in sorted(folder.iterdir()):
        own = np.fromfile(path)
        if len(own) != len(_NAMES):  # it is being made
            continue
        if not _lives(int(path.name.partition("-")[0])):
            own[[_PLACES[name, ""] for name in _GAUGES]] = 0
        found += own
    return found


def _mapped(folder: Path) -> np.ndarray:
    # Of one that has died and was started again, both files count.
    handle, path = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=folder)
    os.close(handle)
    return np.memmap(path, np.float64, "w+", shape=(len(_NAMES),))


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _counters(values: dict[tuple[str, str], float]) -> Iterator[str]:
    for name, text in _HELP.items():
        yield f"# HELP fastcls_{name}_total {text}"
        yield f"# TYPE fastcls_{name}_total counter"
        for (own, labels), value in values.items():
            if own == name and (value or not labels):
                yield f"fastcls_{name}_total{labels} {value:.10g}"


def _histogram(values: dict[tuple[str, str], float]) -> Iterator[str]:
    yield f"# HELP {_SECONDS} Time from the first byte of a prediction's request to its answer."
    yield f"# TYPE {_SECONDS} histogram"
    count = 0
    for bound in _BUCKETS:
        count += int(values["bucket", bound])
        yield f'{_SECONDS}_bucket{{le="{bound}"}} {count}'
    yield f"{_SECONDS}_sum {values['seconds', '']:.10g}"
    yield f"{_SECONDS}_count {count}"


def _gauges(values: dict[tuple[str, str], float]) -> Iterator[str]:
    for name, text in _GAUGES.items():
        yield f"# HELP fastcls_{name} {text}"
        yield f"# TYPE fastcls_{name} gauge"
        yield f"fastcls_{name} {values[name, '']:.10g}"

"""Counters in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

_HELP = {
    "requests": "Answered requests, by path and status.",
    "images": "Images that were forwarded.",
    "unreadable_images": "Images that could not be read.",
    "batches": "Forward passes.",
    "forward_seconds": "Time of forward passes.",
}
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SECONDS = "fastcls_request_seconds"


class Counters:
    """What a server has done since it was started."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, str], float] = defaultdict(float, {(name, ""): 0.0 for name in _HELP})
        del self._values["requests", ""]  # there is none without a path
        self._buckets, self._sum = [0] * (len(_BOUNDS) + 1), 0.0

    def add(self, name: str, amount: float = 1, labels: str = "") -> None:
        """Count; any thread may.

        Args:
            name: A key of the table above.
            amount: 0 or more.
            labels: As Prometheus writes them, of values that are known to be harmless.
        """
        with self._lock:
            self._values[name, labels] += amount

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.add("requests", labels=f'{{path="{path}",status="{status}"}}')
        if path == "/predict":
            with self._lock:
                self._buckets[sum(seconds > bound for bound in _BOUNDS)] += 1
                self._sum += seconds

    def render(self, gauges: dict[str, tuple[float, str]]) -> str:
        """All as text.

        Args:
            gauges: Values of this moment, with their help, by name.
        """
        with self._lock:
            values, buckets, total = dict(self._values), list(self._buckets), self._sum
        return "\n".join([*_counters(values), *_histogram(buckets, total), *_gauges(gauges), ""])


def _counters(values: dict[tuple[str, str], float]) -> Iterator[str]:
    for name, text in _HELP.items():
        yield f"# HELP fastcls_{name}_total {text}"
        yield f"# TYPE fastcls_{name}_total counter"
        for (own, labels), value in sorted(values.items()):
            if own == name:
                yield f"fastcls_{name}_total{labels} {value:.10g}"


def _histogram(buckets: list[int], total: float) -> Iterator[str]:
    yield f"# HELP {_SECONDS} Time from the first byte of a prediction's request to its answer."
    yield f"# TYPE {_SECONDS} histogram"
    count = 0
    for bound, own in zip((*map(str, _BOUNDS), "+Inf"), buckets, strict=True):
        count += own
        yield f'{_SECONDS}_bucket{{le="{bound}"}} {count}'
    yield f"{_SECONDS}_sum {total:.10g}"
    yield f"{_SECONDS}_count {count}"


def _gauges(gauges: dict[str, tuple[float, str]]) -> Iterator[str]:
    for name, (value, text) in gauges.items():
        yield f"# HELP fastcls_{name} {text}"
        yield f"# TYPE fastcls_{name} gauge"
        yield f"fastcls_{name} {value:.10g}"

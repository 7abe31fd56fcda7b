"""Images that arrive together are forwarded together."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Forward = Callable[[list[np.ndarray]], Sequence[Any]]


@dataclass(eq=False)
class _Waiting:
    pixels: np.ndarray
    future: Future[Any] = field(default_factory=Future)


class Batcher:
    """Forwards images on one thread: neither Keras nor OpenVINO is called by two.

    A batch is forwarded as soon as it is full, or nothing more is to be expected: no other image is being
    decoded, and as many wait as when the last batch was done, with those in it, whose clients have just been
    answered and may ask again. It waits for `max_wait_s` at most.

    Args:
        prepare: Called once on the thread; returns what forwards (H, W, 3) uint8 images.
        batch_size: Most images that are forwarded together.
        max_wait_s: See above.
        on_failure: Called on the thread with the error, where `prepare` fails.
    """

    def __init__(
        self,
        prepare: Callable[[], Forward],
        *,
        batch_size: int,
        max_wait_s: float,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._prepare, self._on_failure = prepare, on_failure
        self._batch_size, self._max_wait_s = batch_size, max_wait_s
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._coming, self._expected, self._is_closed = 0, 1, False
        self.is_ready = False
        self._thread = threading.Thread(target=self._work, name="fastcls-forward", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Forward what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    @contextlib.contextmanager
    def coming(self) -> Iterator[None]:
        """Inside, an image is on its way, for which others may wait."""
        with self._changed:
            self._coming += 1
        try:
            yield
        finally:
            with self._changed:
                self._coming -= 1
                self._changed.notify()

    def submit(self, pixels: np.ndarray) -> Future[Any]:
        """What is said of an image, later. A future that is canceled in time is not forwarded."""
        one = _Waiting(pixels)
        with self._changed:
            self._waiting.append(one)
            self._changed.notify()
        return one.future

    def _work(self) -> None:
        try:
            forward = self._prepare()
        except Exception as error:  # whatever a damaged model raises
            self._on_failure(error)
            return
        self.is_ready = True
        while batch := self._next():
            running = [one for one in batch if one.future.set_running_or_notify_cancel()]
            if running:
                _forward(forward, running)
            self._expected = len(batch) + len(self._waiting)

    def _next(self) -> list[_Waiting]:
        """The next batch; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._changed.wait_for(self._is_complete, timeout=self._max_wait_s)
            count = min(self._batch_size, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _is_complete(self) -> bool:
        count = len(self._waiting)
        is_all = not self._coming and count >= self._expected
        return is_all or count >= self._batch_size or self._is_closed


def _forward(forward: Forward, batch: list[_Waiting]) -> None:
    try:
        results = forward([one.pixels for one in batch])
    except Exception as error:  # the requests of this batch fail, the server goes on
        for one in batch:
            one.future.set_exception(error)
        return
    for one, result in zip(batch, results, strict=True):
        one.future.set_result(result)

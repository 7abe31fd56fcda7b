"""Threads that work ahead, and end when they are not wanted any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from fastcls.parallel import ahead, spread


def test_spread__keeps_the_order():
    assert list(spread(lambda number: number**2, range(500))) == [number**2 for number in range(500)]


def test_spread__an_interrupt_while_it_orders_does_not_wait_for_what_is_ordered():
    called = []

    def work(number: int) -> None:
        called.append(number)
        time.sleep(0.02)

    def items() -> Iterator[int]:
        yield from range(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(spread(work, items()))
    assert len(called) < 60


def test_ahead__an_interrupt_does_not_wait_for_calls_that_do_not_end():
    ended = threading.Event()

    def items() -> Iterator[int]:
        yield from range(3)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(ahead(lambda _: ended.wait(30), items(), threads=2, depth=8))
    assert time.monotonic() - started < 5
    ended.set()


def test_ahead__a_consumer_that_stops_waits_for_the_calls_that_run():
    done = []

    def work(number: int) -> int:
        time.sleep(0.05 * number)
        done.append(number)
        return number

    found = ahead(work, range(50), threads=2, depth=4)
    assert next(found) == 0
    found.close()
    before = list(done)
    time.sleep(0.2)
    assert done == before and len(done) < 5

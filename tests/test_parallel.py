"""Threads that work ahead, and end when they are not wanted any more."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fastcls.parallel import spread


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

"""Work ahead of whoever consumes the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from fastcls import interrupts

_WAITING = 16  # threads that wait for a disk
WAITING_WIDE = 64  # threads that wait for a network
_PATIENCE_S = 0.5  # after an interrupt
_Item = TypeVar("_Item")
_Other = TypeVar("_Other")
_Result = TypeVar("_Result")


def ahead(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, threads: int, depth: int
) -> Iterator[_Result]:
    """Results of `function` in the order of `items`, computed by threads ahead of the consumer.

    Args:
        function: What to apply; it must release the interpreter's lock to gain anything.
        items: Taken as needed, never more than `depth` ahead.
        threads: How many calls run at once.
        depth: How many results may wait.

    A consumer that stops early waits for the calls that run, and cancels the others. An interrupt does not
    wait for long: a server may be silent. The process can end before such calls do.
    """
    waiting: deque[Future[_Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    is_interrupted = False
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= depth:
                yield waiting[0].result()
                waiting.popleft()
        while waiting:
            yield waiting[0].result()
            waiting.popleft()
    except KeyboardInterrupt:
        is_interrupted = True
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        # An interrupt may reach the consumer instead, which then closes this generator.
        patience = _PATIENCE_S if is_interrupted or interrupts.was_received() else None
        wait([each for each in waiting if not each.cancelled()], patience)


def spread(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Results of a function that waits for the disk, in the order of `items`.

    Unlike the map of a pool, it has ordered few others when it is interrupted.
    """
    return ahead(function, items, threads=_WAITING, depth=4 * _WAITING)


def spread_wide(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`spread`, for a function that waits for a network: its answers take many times as long."""
    return ahead(function, items, threads=WAITING_WIDE, depth=4 * WAITING_WIDE)


def both(one: Callable[[], _Item], other: Callable[[], _Other]) -> tuple[_Item, _Other]:
    """Results of two functions, the other one computed in a thread meanwhile.

    They may be fast by BLAS, but each by one thread of it: more would wait for each other. An interrupt does
    not wait for the thread.
    """
    from threadpoolctl import threadpool_limits

    beside = ThreadPoolExecutor(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            waiting = beside.submit(other)
            return one(), waiting.result()
    finally:
        beside.shutdown(wait=False, cancel_futures=True)

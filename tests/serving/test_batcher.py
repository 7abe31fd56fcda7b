"""What is forwarded together."""

import threading
import time

import numpy as np
import pytest

from fastcls.serving.batcher import Batcher


class Forward:
    """Notes its batches; each waits until it is let through."""

    def __init__(self):
        self.batches, self.threads, self.gate = [], set(), threading.Event()

    def __call__(self, images):
        self.gate.wait(10)
        self.batches.append(len(images))
        self.threads.add(threading.get_ident())
        if any(image[0] == 99 for image in images):
            raise RuntimeError("fails")
        return [int(image[0]) for image in images]


def batcher_of(forward, **options):
    known = {"batch_size": 4, "max_wait_s": 10, "on_failure": pytest.fail, **options}
    batcher = Batcher(lambda: forward, **known)
    batcher.start()
    return batcher


def image(number):
    return np.array([number], np.uint8)


def test_images_that_wait_are_forwarded_together_in_order_on_one_thread():
    forward = Forward()
    batcher = batcher_of(forward, max_wait_s=0.01)
    first = batcher.submit(image(0))
    while batcher._waiting:  # until it is being forwarded
        time.sleep(0.001)
    others = [batcher.submit(image(number)) for number in range(1, 10)]
    forward.gate.set()
    assert [one.result(5) for one in (first, *others)] == [*range(10)]
    assert forward.batches == [1, 4, 4, 1] and len(forward.threads) == 1
    batcher.close(5)


def test_a_batch_waits_for_an_image_on_its_way_and_for_nothing_else():
    forward = Forward()
    forward.gate.set()
    batcher = batcher_of(forward)
    assert batcher.submit(image(1)).result(2) == 1  # nothing is on its way
    with batcher.coming():
        first = batcher.submit(image(2))
        with batcher.coming():
            second = batcher.submit(image(3))
        assert not first.done()
    assert (first.result(2), second.result(2)) == (2, 3)
    assert forward.batches == [1, 2]
    batcher.close(5)


def test_a_batch_waits_for_as_many_as_were_answered_last():
    forward = Forward()
    forward.gate.set()
    batcher = batcher_of(forward, max_wait_s=5)
    with batcher.coming():
        together = [batcher.submit(image(number)) for number in range(3)]
    assert [one.result(2) for one in together] == [0, 1, 2]
    again = [batcher.submit(image(number)) for number in range(2)]
    assert not again[0].done()
    again.append(batcher.submit(image(2)))  # the last of those who were answered asks again
    assert [one.result(2) for one in again] == [0, 1, 2]
    assert forward.batches == [3, 3]
    batcher.close(5)


def test_a_batch_waits_no_longer_than_allowed():
    forward = Forward()
    forward.gate.set()
    batcher = batcher_of(forward, max_wait_s=0.05)
    with batcher.coming():  # of a decoder that hangs
        assert batcher.submit(image(1)).result(2) == 1
    batcher.close(5)


def test_a_canceled_image_is_not_forwarded_and_one_that_fails_ends_nothing():
    forward = Forward()
    batcher = batcher_of(forward, batch_size=1)
    first = batcher.submit(image(0))
    while batcher._waiting:
        time.sleep(0.001)
    canceled, failing, last = (batcher.submit(image(number)) for number in (1, 99, 2))
    assert canceled.cancel()
    forward.gate.set()
    assert (first.result(5), last.result(5)) == (0, 2)
    with pytest.raises(RuntimeError, match="fails"):
        failing.result(5)
    assert forward.batches == [1, 1, 1]
    batcher.close(5)


def test_close__forwards_what_waits():
    forward = Forward()
    batcher = batcher_of(forward)
    waiting = [batcher.submit(image(number)) for number in range(6)]
    threading.Timer(0.05, forward.gate.set).start()
    batcher.close(5)
    assert [one.result(0) for one in waiting] == [*range(6)]


def test_failure__of_the_preparation_is_told():
    told = []

    def prepare():
        raise ValueError("damaged")

    batcher = Batcher(prepare, batch_size=1, max_wait_s=0, on_failure=told.append)
    batcher.start()
    batcher.close(5)
    assert str(told[0]) == "damaged" and not batcher.is_ready

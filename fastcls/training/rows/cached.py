"""Feeds rows of a cache to a training: from memory when they fit, else streamed from the shards."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from fastcls.cache.shard import group
from fastcls.errors import OptionError
from fastcls.machine import available_memory, gpu_memory
from fastcls.parallel import ahead
from fastcls.tasks import Task
from fastcls.training.rows.sampling import draw_images, epoch_random
from fastcls.training.rows.selection import LabeledRows

# A training keeps two sets of rows; the other half is for copies of their batches, and for others.
_MEMORY_SHARE = 4
# While streaming, two blocks are in memory: the one that is trained on, and the one that is read ahead.
BLOCK_BYTES = 1 << 26
# Neighbors that are read together when streaming: one read of the disk. Rows are often in the order of the
# classes: the shorter the runs, the more classes in a block.
_RUN_BYTES = 1 << 18
_ALIGNMENT = 64  # as TensorFlow wants its memory


def allowed_memory() -> int:
    """How many bytes one set of rows may keep: a quarter of the memory that is available now."""
    return available_memory() // _MEMORY_SHARE


def allowed_as_tensor() -> int:
    """The same of rows that become a tensor: it stays on the GPU, if there is one, and passes the host."""
    import tensorflow as tf

    free = gpu_memory() if tf.config.list_logical_devices("GPU") else None
    return allowed_memory() if free is None else min(allowed_memory(), free // _MEMORY_SHARE)


def require_memory_of(rows: int, width: int, what: str, remedy: str) -> None:
    """Refuse what keeps float32 rows in memory, and works with a copy, where they take more than half of it.

    Args:
        rows: How many.
        width: Features of each.
        what: What keeps them, as the message calls it.
        remedy: What to do, a sentence without its end.

    Raises:
        OptionError: They need more memory than that.
    """
    needed, allowed = 4 * rows * width, allowed_memory() * _MEMORY_SHARE // 2
    if needed > allowed:
        raise OptionError(
            f"{what} keeps all bottlenecks in memory: {rows:,} of {width:,} features, "
            f"{needed / 2**30:.1f} GiB, more than the {allowed / 2**30:.1f} GiB that it may use. {remedy}"
        )


class Feed(Protocol):
    """What a model is trained or validated on, a pass per epoch.

    Attributes:
        shape: Shape of one input.
        dtype: In which inputs are fed.
        label_shape: Shape of one label.
        label_dtype: Of the labels.
        batch_size: Inputs per step.
        task: What the labels are of.
    """

    shape: tuple[int, ...]
    dtype: Any
    label_shape: tuple[int, ...]
    label_dtype: Any
    batch_size: int
    task: Task

    def blocks(self, epoch: int = 1) -> Iterator[tuple[Any, Any, np.ndarray]]:
        """One pass in large pieces. Its order depends on seed and epoch alone, not on the passes before.

        Yields:
            Tensors of inputs (N, ...) and of labels (N, ...), and the order in which to take them, whole
            batches but for the last piece: (N,) int64. A piece is valid until the next is asked for.
        """


class Feeder:
    """One pass over some images per epoch, shuffled anew each time or in order.

    Of an image with several views, an epoch takes one: any with the same chance, or the first when the
    order is kept.

    Rows that fit into `memory_bytes` are read once and kept, else they are streamed, in the same order: more
    than `BLOCK_BYTES` of them are put into a random order of short runs of neighboring rows, and shuffled
    again within blocks. Reading stays near sequential and memory bounded, whatever the number of rows.

    Args:
        data: The rows.
        batch_size: Rows per batch; only the last batch of a pass has fewer.
        seed: Decides, with the epoch, the order and the views; None keeps the rows in order.
        memory_bytes: How much may be kept; None for `allowed_as_tensor`.
        balanced: Draw as many rows with replacement instead, each class equally often; needs a seed.

    Attributes:
        shape: Shape of one row.
        dtype: In which rows are stored and fed.
        label_shape: Shape of one label.
        label_dtype: Of the labels.
        batch_size: As given.
        task: What the labels are of.
    """

    def __init__(
        self,
        data: LabeledRows,
        batch_size: int,
        seed: int | None,
        memory_bytes: int | None = None,
        *,
        balanced: bool = False,
    ) -> None:
        self._data = data
        self._seed = seed
        self._balanced = balanced
        self.task = data.task
        self.label_shape, self.label_dtype = data.labels.shape[1:], data.labels.dtype
        first = data.rows.take(np.arange(1)).read()
        self.shape, self.dtype, self.batch_size = first.shape[1:], first.dtype, batch_size
        # Whole batches, so that blocks leave no remainder inside a pass.
        self._block = batch_size * max(1, BLOCK_BYTES // (batch_size * first.nbytes))
        self._run = max(1, _RUN_BYTES // first.nbytes) * data.views
        fits = first.nbytes * len(data) <= (allowed_as_tensor() if memory_bytes is None else memory_bytes)
        self._kept = self._read(np.arange(len(data)), self._empty(len(data))) if fits else None

    def blocks(self, epoch: int = 1) -> Iterator[tuple[Any, Any, np.ndarray]]:
        """One pass; see `Feed`. Rows are in the stored type."""
        order = self._order(epoch_random(self._seed, epoch))
        if self._kept is not None:
            yield *self._kept, order
            return
        pieces = [order[start : start + self._block] for start in range(0, len(order), self._block)]
        # The next block is read while one is trained on, into the place of the one before.
        into = itertools.cycle([self._empty(len(pieces[0])) for _ in range(2)])

        def read(places: np.ndarray) -> tuple[Any, Any, np.ndarray]:
            stored = np.argsort(places, kind="stable")
            ranks = np.empty(len(places), np.int64)
            ranks[stored] = np.arange(len(places))
            return *self._read(places[stored], next(into)), ranks

        yield from ahead(read, pieces, threads=1, depth=2)

    def _empty(self, count: int) -> np.ndarray:
        """Memory for `count` rows, aligned so that TensorFlow takes them where they are, without a copy."""
        size = count * math.prod(self.shape) * self.dtype.itemsize
        memory = np.empty(size + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        return memory[start : start + size].view(self.dtype).reshape(count, *self.shape)

    def _read(self, places: np.ndarray, into: np.ndarray) -> tuple[Any, Any]:
        import tensorflow as tf

        rows = self._data.rows.take(places).read(into)
        shared = tf.experimental.dlpack.from_dlpack(rows.__dlpack__())
        # On a GPU this copies; elsewhere it is the same memory.
        return tf.raw_ops.Identity(input=shared), tf.convert_to_tensor(self._data.labels[places])

    def _choose(self, random: np.random.Generator | None) -> np.ndarray:
        """The rows of an epoch, one view of each image that is drawn: (N,) int64, in random order."""
        views, labels = self._data.views, self._data.labels[:: self._data.views]
        images = draw_images(labels, random, self.task, balanced=self._balanced)
        if random is None or views == 1:
            return images * views
        return images * views + random.integers(views, size=len(images))

    def _order(self, random: np.random.Generator | None) -> np.ndarray:
        """The rows of an epoch in its order: (N,) int64. Where they are kept has no part in it."""
        chosen = self._choose(random)
        if random is None or len(chosen) <= self._block:
            return chosen
        chosen.sort()
        runs = group(chosen // self._run)
        order = chosen[np.concatenate([runs[run] for run in random.permutation(len(runs))])]
        for start in range(0, len(order), self._block):
            random.shuffle(order[start : start + self._block])
        return order

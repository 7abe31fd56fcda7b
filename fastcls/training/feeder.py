"""Feeds rows of a cache to Keras: from memory when they fit, else streamed from the shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcls.training.selector import LabeledRows

MEMORY_BYTES = 1 << 30
BLOCK_BYTES = 1 << 26
# Rows that lie together in a shard and are read together when streaming.
_RUN = 64


class Feeder:
    """One pass over some rows per iteration, shuffled anew each time or in order.

    Rows that fit into `memory_bytes` are read once and kept. Otherwise an epoch is a random order of
    short runs of neighboring rows, shuffled again within blocks of `BLOCK_BYTES`: reading stays near
    sequential and memory bounded, whatever the number of rows.

    Args:
        data: The rows.
        batch_size: Rows per batch.
        seed: Decides the orders; None keeps the rows in order.
        memory_bytes: How much may be kept.
    """

    def __init__(
        self, data: LabeledRows, batch_size: int, seed: int | None, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._random = None if seed is None else np.random.default_rng(seed)
        first = data.rows.take(np.arange(1)).read()
        self.shape: tuple[int, ...] = first.shape[1:]
        self._block = max(1, BLOCK_BYTES // first.nbytes)
        self._kept = data.rows.read() if first.nbytes * len(data) <= memory_bytes else None

    def dataset(self) -> Any:
        """A `tf.data.Dataset` of (bottlenecks (B, ...) float32, labels (B,) int64)."""
        import tensorflow as tf

        signature = (tf.TensorSpec((None, *self.shape), tf.float32), tf.TensorSpec((None,), tf.int64))
        blocks = tf.data.Dataset.from_generator(self.blocks, output_signature=signature)
        steps = -(-len(self._data) // self._batch_size)
        batches = blocks.rebatch(self._batch_size).prefetch(2)
        return batches.apply(tf.data.experimental.assert_cardinality(steps))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One epoch in large pieces: (bottlenecks (N, ...) float32, labels (N,) int64)."""
        order = self._order()
        for start in range(0, len(order), self._block):
            places = order[start : start + self._block]
            if self._random:
                places = self._random.permutation(places)
            rows = self._data.rows.take(places).read() if self._kept is None else self._kept[places]
            yield rows.astype(np.float32, copy=False), self._data.labels[places]

    def _order(self) -> np.ndarray:
        if self._random is None:
            return np.arange(len(self._data))
        if self._kept is not None:
            return self._random.permutation(len(self._data))
        stored = np.lexsort((self._data.rows.row, self._data.rows.shard))
        runs = np.array_split(stored, max(1, len(stored) // _RUN))
        return np.concatenate([runs[run] for run in self._random.permutation(len(runs))])

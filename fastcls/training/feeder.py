"""Feeds rows of a cache to a training: from memory when they fit, else streamed from the shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcls.parallel import ahead
from fastcls.training.selector import LabeledRows

MEMORY_BYTES = 1 << 30
# Two blocks are in memory while streaming: the one that is trained on and the one that is read ahead.
BLOCK_BYTES = 1 << 26
# Rows of a shard that are read together when streaming, at multiples of this number.
_RUN = 128


class Feeder:
    """One pass over some rows per iteration, shuffled anew each time or in order.

    Rows that fit into `memory_bytes` are read once and kept. Otherwise an epoch is a random order of
    short runs of neighboring rows, shuffled again within blocks of `BLOCK_BYTES`: reading stays near
    sequential and memory bounded, whatever the number of rows.

    Args:
        data: The rows.
        batch_size: Rows per batch; only the last batch of a pass has fewer.
        seed: Decides the orders; None keeps the rows in order.
        memory_bytes: How much may be kept.

    Attributes:
        shape: Shape of one row.
        dtype: In which rows are stored and fed.
        batch_size: As given.
    """

    def __init__(
        self, data: LabeledRows, batch_size: int, seed: int | None, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self._data = data
        self._random = None if seed is None else np.random.default_rng(seed)
        first = data.rows.take(np.arange(1)).read()
        self.shape, self.dtype, self.batch_size = first.shape[1:], first.dtype, batch_size
        # Whole batches, so that blocks leave no remainder inside a pass.
        self._block = batch_size * max(1, BLOCK_BYTES // (batch_size * first.nbytes))
        fits = first.nbytes * len(data) <= memory_bytes
        self._kept = self._read(np.arange(len(data))) if fits else None

    def blocks(self) -> Iterator[tuple[Any, Any, np.ndarray]]:
        """One pass in large pieces.

        Yields:
            Tensors of rows (N, ...) in the stored type and of labels (N,) int64, and the order in which
            to take them: (N,) int64.
        """
        order = self._order()
        if self._kept is not None:
            yield *self._kept, order
            return
        pieces = [order[start : start + self._block] for start in range(0, len(order), self._block)]
        for rows, labels in ahead(self._read, pieces, threads=1, depth=2):
            yield rows, labels, self._shuffled(len(labels))

    def _read(self, places: np.ndarray) -> tuple[Any, Any]:
        import tensorflow as tf

        rows = self._data.rows.take(places).read()
        return tf.convert_to_tensor(rows), tf.convert_to_tensor(self._data.labels[places])

    def _order(self) -> np.ndarray:
        if self._random is None or self._kept is not None:
            return self._shuffled(len(self._data))
        shard, run = self._data.rows.shard, self._data.rows.row // _RUN
        stored = np.lexsort((self._data.rows.row, shard))
        starts = np.flatnonzero(np.diff(shard[stored]) | np.diff(run[stored])) + 1
        runs = np.split(stored, starts)
        return np.concatenate([runs[run] for run in self._random.permutation(len(runs))])

    def _shuffled(self, count: int) -> np.ndarray:
        return np.arange(count) if self._random is None else self._random.permutation(count)

"""The training images that are nearest to others, by the cosine of their bottlenecks."""

from __future__ import annotations

import numpy as np

_BLOCK_BYTES = 1 << 26


def nearest(queries: np.ndarray, rows: np.ndarray, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The nearest rows of each query, the nearest first.

    Args:
        queries: (Q, D) float32.
        rows: (N, D) float32.
        count: How many to find; all where there are fewer.

    Returns:
        Their places (Q, K) int64 and cosines (Q, K) float32.
    """
    kept = min(count, len(rows))
    queries = _normalized(queries)
    places, cosines = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    step = max(1, _BLOCK_BYTES // (4 * max(1, len(queries), rows.shape[1])))
    for start in range(0, len(rows), step):
        block = queries @ _normalized(rows[start : start + step]).T
        own = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        cosines, places = np.hstack([cosines, block]), np.hstack([places, own])
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :kept]
        cosines, places = np.take_along_axis(cosines, order, 1), np.take_along_axis(places, order, 1)
    return places, cosines


def _normalized(rows: np.ndarray) -> np.ndarray:
    unit: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit

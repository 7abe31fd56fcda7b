"""Digests of images in arrays: a million of them are looked up and compared in a moment."""

from __future__ import annotations

import numpy as np

DIGEST_DTYPE = np.dtype("S32")  # hexadecimal characters; b"" where a digest is unknown
_BLOCK = 1 << 16  # digests that are converted at once


def as_numbers(digests: np.ndarray) -> np.ndarray:
    """Digests (N,) S32 as numbers: (N, 2) uint64, in the same order."""
    numbers = np.empty((len(digests), 2), np.uint64)
    for start in range(0, len(digests), _BLOCK):
        part = np.ascontiguousarray(digests[start : start + _BLOCK])
        letters = part.view(np.uint8).reshape(-1, DIGEST_DTYPE.itemsize)
        nibbles = (letters & 15) + 9 * (letters >> 6)  # of "0" to "9" and "a" to "f"
        numbers[start : start + _BLOCK] = (nibbles[:, ::2] << 4 | nibbles[:, 1::2]).view(">u8")
    return numbers


def repeated(digests: np.ndarray) -> np.ndarray:
    """Places of all known digests (N,) S32 that come more than once, rarely of others: (K,) int64, rising."""
    high, low = as_numbers(digests).T
    _, kinds, counts = np.unique(high ^ low, return_inverse=True, return_counts=True)
    return np.flatnonzero((counts[kinds] > 1) & (digests != b""))

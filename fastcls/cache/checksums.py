"""CRC-32 of rows, and from these that of any rows that follow each other.

One call of zlib for many rows is faster than one for each, and frees the interpreter's lock for other
threads; for 5 KiB and less zlib keeps it. The CRC-32 of two pieces together follows from theirs: it is a
remainder of polynomials over GF(2), and what follows multiplies the first by a power of x (zlib's
`crc32_combine`).
"""

from __future__ import annotations

import functools
from zlib import crc32

import numpy as np

# Bits are reflected: the highest is x^0, and a byte more is times x^8.
_POLYNOMIAL = 0xEDB88320
_ONE, _BYTE = 1 << 31, 1 << 23


def checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32 of each row's bytes: (N, ...) -> (N,) uint32."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.array([crc32(row.data) for row in flat], np.uint32)


def running(each: np.ndarray, row_bytes: int) -> np.ndarray:
    """CRC-32 of the first 0, 1, ... N rows together: (N + 1,) uint32.

    Args:
        each: (N,) uint32, as `checksums` has them.
        row_bytes: Length of a row.
    """
    lowest, low, high, highest = _followed_by(row_bytes)
    so_far, found = 0, [0]
    for own in each.tolist():
        followed = lowest[so_far & 255] ^ low[so_far >> 8 & 255] ^ high[so_far >> 16 & 255]
        so_far = followed ^ highest[so_far >> 24] ^ own
        found.append(so_far)
    return np.array(found, np.uint32)


def of_run(sums: np.ndarray, first: int, stop: int, row_bytes: int) -> int:
    """CRC-32 of the rows from one to before another together.

    Args:
        sums: As `running` has them.
        first: The one.
        stop: The other.
        row_bytes: Length of a row.

    >>> rows = np.arange(12, dtype=np.uint8).reshape(4, 3)
    >>> of_run(running(checksums(rows), 3), 1, 3, 3) == crc32(rows[1:3].tobytes())
    True
    """
    return int(sums[stop]) ^ _times(int(sums[first]), _power((stop - first) * row_bytes))


def _times(one: int, other: int) -> int:
    """The product of two polynomials, modulo that of CRC-32."""
    product = 0
    while one:
        if one & _ONE:
            product ^= other
        one = one << 1 & 0xFFFFFFFF
        other = other >> 1 ^ (_POLYNOMIAL if other & 1 else 0)
    return product


@functools.lru_cache(maxsize=1 << 12)
def _power(count: int) -> int:
    """x^8 to the power of `count`: what so many bytes that follow multiply by."""
    power, square = _ONE, _BYTE
    while count:
        if count & 1:
            power = _times(power, square)
        square, count = _times(square, square), count >> 1
    return power


@functools.lru_cache(maxsize=16)
def _followed_by(row_bytes: int) -> list[list[int]]:
    """For each byte of a CRC-32, the lowest first, what each of its values is once a row follows."""
    power = _power(row_bytes)
    return [[_times(value << shift, power) for value in range(256)] for shift in (0, 8, 16, 24)]

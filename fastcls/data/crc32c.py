"""CRC-32C (Castagnoli), the checksum of TFRecord files, in NumPy.

No package that fastcls needs offers it without importing TensorFlow, which costs seconds in each worker.
The register of a CRC is linear in its input: pieces of a message are taken side by side, a byte of each at a
time, and their registers are joined in pairs, the left one moved over the length of the right one.
"""

from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected
_ALL = 0xFFFFFFFF
# Bytes of a piece. A message of fewer is not worth the joining.
_PIECE = 128
# What TFRecord adds to a rotated checksum, as "it is problematic to compute the CRC of a string that contains
# embedded CRCs" (tensorflow/core/lib/hash/crc32c.h).
_MASK = 0xA282EAD8


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C of some bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    if len(data) < _PIECE:
        return _short(data)
    count = -(-len(data) // _PIECE)
    pieces = np.zeros(count * _PIECE, np.uint8)  # zeros in front do not move a register of zero
    pieces[-len(data) :] = np.frombuffer(data, np.uint8)
    # The register starts with ones: the same as their sum with the first four bytes.
    pieces[len(pieces) - len(data) :][:4] ^= 0xFF
    registers = np.zeros(count, np.uint32)
    for column in np.ascontiguousarray(pieces.reshape(count, _PIECE).T):
        registers = _table()[(registers ^ column) & 0xFF] ^ (registers >> np.uint32(8))
    level = 0
    while len(registers) > 1:
        if len(registers) % 2:
            registers = np.concatenate([np.zeros(1, np.uint32), registers])
        registers = _apply(_move(level), registers[::2]) ^ registers[1::2]
        level += 1
    return int(registers[0]) ^ _ALL


def masked_crc32c(data: bytes | memoryview) -> int:
    """The checksum as TFRecord files hold it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & _ALL


def _short(data: bytes | memoryview) -> int:
    table, register = _table_list(), _ALL
    for byte in bytes(data):
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ _ALL


@functools.cache
def _table() -> np.ndarray:
    """What one byte does to a register of zero: (256,) uint32."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = (values >> np.uint32(1)) ^ np.where(values & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return values


@functools.cache
def _table_list() -> list[int]:
    return [int(value) for value in _table()]


@functools.cache
def _move(level: int) -> np.ndarray:
    """What 2 ** level pieces of zeros do to a register: a table by the place and value of its bytes."""
    moved = np.uint32(1) << np.arange(32, dtype=np.uint32)  # each bit of a register
    if level:
        half = _move(level - 1)
        moved = _apply(half, _apply(half, moved))
    else:
        for _ in range(_PIECE):
            moved = _table()[moved & 0xFF] ^ (moved >> np.uint32(8))
    has_bit = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    return np.stack(
        [np.bitwise_xor.reduce(np.where(has_bit, bits, 0), axis=1) for bits in moved.reshape(4, 8)]
    )


def _apply(move: np.ndarray, registers: np.ndarray) -> np.ndarray:
    parts = [move[place][(registers >> np.uint32(8 * place)) & 0xFF] for place in range(4)]
    return np.bitwise_xor.reduce(parts)

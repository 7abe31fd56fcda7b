"""TFRecord files: the records of one, found by where they begin.

A record is its length (uint64), the masked CRC-32C of these 8 bytes, the data, and the masked CRC-32C of the
data (tensorflow/core/lib/io/record_writer.h), all little-endian. TensorFlow has no public way to read a
record by its place, and importing it takes longer than digesting thousands of images.

The address of a record is `FILE#PLACE`: its offset in bytes, padded with zeros so that sorted addresses are
in file order. `FILE#PLACE:KEY` names the feature that holds its image too.
"""

from __future__ import annotations

import mmap
import re
import shlex
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from fastcls import files
from fastcls.data.parquet import is_parquet
from fastcls.data.tar import is_tar

# `train-00000-of-00004` (TensorFlow's scripts), `x.tfrecord-00000-of-00004` (TFDS), `x.tfrecord`.
# `tf.records` is FiftyOne's.
_NAME = re.compile(r"(\.tfrecords?|\.tfrec|\.records|-\d{5}-of-\d{5})$", re.IGNORECASE)
_ADDRESS = re.compile(r"(.*?)#(\d+)(?::(.+))?", re.DOTALL)
_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
# What TFRecord adds to a rotated checksum, as "it is problematic to compute the CRC of a string that contains
# embedded CRCs" (tensorflow/core/lib/hash/crc32c.h).
_MASK = 0xA282EAD8
_GZIP, _ZLIB = b"\x1f\x8b", b"\x78"


class DamagedRecordError(OSError):
    """A record cannot be read; the message says why and where."""


def is_tfrecord(name: str) -> bool:
    """Whether a file name is one of TFRecord files.

    >>> [is_tfrecord(name) for name in ("a.tfrecord", "train-00000-of-00002", "a.jpg")]
    [True, True, False]
    """
    return bool(_NAME.search(name))


def join_address(file: str | Path, place: int, key: str | None = None) -> str:
    """The address of a record, or of the image that it has under a key.

    >>> join_address("data/train-00000-of-00002.tfrecord", 1024)
    'data/train-00000-of-00002.tfrecord#000000001024'
    """
    return f"{file}#{place:012d}" + (f":{key}" if key else "")


def split_address(path: str) -> tuple[str, int | None, str | None]:
    """File and place of a record, and the key of its image if that is named; any other path has neither.

    An image inside a Parquet file has such an address too: its place is a row, its key a column; and one in a
    tar file, where its key is its size.

    >>> split_address("data/train-00000-of-00002.tfrecord#000000001024:photo")
    ('data/train-00000-of-00002.tfrecord', 1024, 'photo')
    >>> split_address("a#1/b.jpg")
    ('a#1/b.jpg', None, None)
    """
    match = _ADDRESS.fullmatch(path) if "#" in path else None
    if match and (is_tfrecord(match[1]) or is_parquet(match[1]) or is_tar(match[1])):
        return match[1], int(match[2]), match[3]
    return path, None, None


def begins_with_record(head: bytes) -> bool:
    """Whether the first bytes of a file, 12 or more, are those of a TFRecord file."""
    if len(head) < _HEAD.size:
        return False
    _, checksum = _HEAD.unpack(head[: _HEAD.size])
    return _masked_crc32c(head[:8]) == checksum


def scan(file: Path) -> Iterator[tuple[int, memoryview]]:
    """Place and data of each record of a file; data are not checked, and are read lazily.

    Raises:
        DamagedRecordError: The length of a record is damaged, or the file ends inside of one.
        OSError: The file cannot be read.
    """
    view, place = look_into(file), 0
    while place < len(view):
        data = record_in(view, file, place)
        yield place, data
        place += _HEAD.size + len(data) + _TAIL.size


def look_into(file: Path) -> memoryview:
    """The bytes of a file, mapped into memory and read lazily.

    Raises:
        OSError: The file cannot be read.
    """
    with files.open_file(file) as opened:
        if not opened.seek(0, 2):
            return memoryview(b"")
        # Closed with the last view of it.
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


def record_in(view: memoryview, file: Path, place: int) -> memoryview:
    """The data of a record of a file that `look_into` gave; they are not checked.

    Raises:
        DamagedRecordError: The length of the record is damaged, or the file ends inside of it.
    """
    start, stop = _extent(file, place, bytes(view[place : place + _HEAD.size]), len(view))
    return view[start:stop]


def read_record(file: Path, place: int) -> bytes:
    """The data of a record, checked.

    Raises:
        DamagedRecordError: There is no intact record at this place.
        OSError: The file cannot be read.
    """
    with files.open_file(file) as opened:
        size = opened.seek(0, 2)
        start, stop = _extent(file, place, _read(opened, place, _HEAD.size), size)
        data, tail = _read(opened, start, stop - start), _read(opened, stop, _TAIL.size)
    if len(tail) < _TAIL.size or _TAIL.unpack(tail)[0] != _masked_crc32c(data):
        raise DamagedRecordError(f"the record at {place} of {file} is damaged: its checksum does not match")
    return data


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _extent(file: Path, place: int, head: bytes, size: int) -> tuple[int, int]:
    """Where the data of a record begin and end."""
    if len(head) < _HEAD.size:
        raise DamagedRecordError(f"{file} ends inside the record at {place}: it is truncated")
    length, checksum = _HEAD.unpack(head)
    if _masked_crc32c(head[:8]) != checksum:
        why = "no record begins there" if place else _compression(file, head)
        raise DamagedRecordError(f"{file} is not a TFRecord file, or is damaged at {place}: {why}")
    start = place + _HEAD.size
    if start + length + _TAIL.size > size:
        raise DamagedRecordError(f"{file} ends inside the record at {place}: it is truncated")
    return start, start + length


def _compression(file: Path, head: bytes) -> str:
    """Why a file does not begin with a record: TensorFlow compresses whole files, under any name."""
    if head.startswith(_GZIP):
        return (
            "it is compressed, and images are read by their place in it. Run: gunzip "
            f"< {shlex.quote(str(file))} > {shlex.quote(f'plain-{file.name}')}"
        )
    is_packed = head.startswith(_ZLIB)
    return "it is compressed by zlib; write it uncompressed" if is_packed else "no record begins there"


def _masked_crc32c(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF

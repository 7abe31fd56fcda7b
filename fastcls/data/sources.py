"""The one place where the bytes of a sample come from: a file of its own, or a record of a TFRecord file."""

from __future__ import annotations

import os
from pathlib import Path

from fastcls import files
from fastcls.data.example import parse_example
from fastcls.data.tfrecord import DamagedRecordError, read_record, split_address

ENCODED = "image/encoded"


def read_bytes(path: str | Path) -> bytes:
    """The bytes of an image file, or of the image that a record holds.

    Args:
        path: A file, or the address of a record (`FILE.tfrecord#PLACE`).

    Raises:
        OSError: It cannot be read; `strerror`, or else the message, says why.
    """
    file, place = split_address(os.fspath(path))
    if place is None:
        with files.open_file(file) as opened:
            return opened.read()
    record = memoryview(read_record(Path(file), place))
    try:
        images = parse_example(record, [ENCODED]).bytes_lists.get(ENCODED, [])
    except ValueError as error:
        raise DamagedRecordError(
            f"the record at {place} of {file} is no tf.train.Example: {error}"
        ) from error
    if len(images) != 1:
        raise DamagedRecordError(f"the record at {place} of {file} has no {ENCODED} of one image")
    return bytes(images[0])


def digest(path: str | Path) -> str:
    """The identity of an image: the digest of its bytes, wherever they are.

    Raises:
        OSError: It cannot be read.
    """
    file, place = split_address(os.fspath(path))
    return files.file_digest(Path(file)) if place is None else files.digest(read_bytes(path))


def stat(path: str | Path) -> os.stat_result:
    """State of the file that holds an image.

    Raises:
        OSError: It cannot be had.
    """
    return os.stat(split_address(os.fspath(path))[0])  # noqa: PTH116 (a Path for each of 100,000 is slow)

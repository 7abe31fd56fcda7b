"""The one door to the bytes of a sample: a file, a record of a TFRecord file, or a row of a Parquet file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from fastcls import files
from fastcls.data.parquet import is_parquet, read_image
from fastcls.data.tf_example import parse_example
from fastcls.data.tfrecord import DamagedRecordError, look_into, read_record, record_in, split_address

ENCODED = "image/encoded"
# Where the image of a record is, unless its address says so, in this order: TensorFlow's image scripts; TFDS
# and Kaggle; FiftyOne; TensorFlow's tutorial.
IMAGE_KEYS = (ENCODED, "image", "image_bytes", "image_raw")
_END_BYTES = 4096


def read_bytes(path: str | Path) -> bytes:
    """The bytes of an image file, or of the image that a record holds.

    Args:
        path: A file, or the address of a record (`FILE.tfrecord#PLACE`, or `FILE.tfrecord#PLACE:KEY`) or of a
            row (`FILE.parquet#ROW:COLUMN`).

    Raises:
        OSError: It cannot be read; `strerror`, or else the message, says why.
    """
    file, place, key = split_address(os.fspath(path))
    if place is None:
        with files.open_file(file) as opened:
            return opened.read()
    if is_parquet(file):
        return read_image(file, place, key or "")
    return bytes(_image_in(memoryview(read_record(Path(file), place)), file, place, key))


def _image_in(record: memoryview, file: str, place: int, key: str | None) -> memoryview:
    keys = image_keys(key)
    try:
        found = parse_example(record, keys).bytes_lists
    except ValueError as error:
        raise DamagedRecordError(
            f"the record at {place} of {file} is not a tf.train.Example: {error}"
        ) from error
    images = next((found[name] for name in keys if name in found), [])
    if len(images) != 1:
        raise DamagedRecordError(
            f"the record at {place} of {file} does not have one image in {' or '.join(keys)}"
        )
    return images[0]


def image_keys(key: str | None) -> tuple[str, ...]:
    """The keys under which a record may have its image: the one that is named, or those that are known."""
    return (key,) if key else IMAGE_KEYS


def digest(path: str | Path) -> str:
    """The identity of an image: the digest of its bytes, wherever they are.

    Raises:
        OSError: It cannot be read.
    """
    file, place, _ = split_address(os.fspath(path))
    return files.file_digest(Path(file)) if place is None else files.digest(read_bytes(path))


def digest_or_blank(path: str | Path) -> str:
    """The identity of an image; "" for one that cannot be read, which whoever decodes it will find out."""
    try:
        return digest(path)
    except OSError:
        return ""


def file_of(path: str) -> str:
    """The file that holds an image: itself, or that of an address."""
    return split_address(path)[0]


def end_digest_or_blank(path: str | Path) -> str:
    """The digest of the last bytes of a file, in which images of one size differ; "" if it cannot be read."""
    file, place, _ = split_address(os.fspath(path))
    if place is not None:
        return digest_or_blank(path)
    try:
        with files.open_file(file) as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - _END_BYTES))
            return files.digest(opened.read())
    except OSError:
        return ""


def stat(path: str | Path) -> os.stat_result:
    """State of the file that holds an image.

    Raises:
        OSError: It cannot be read.
    """
    return os.stat(file_of(os.fspath(path)))  # noqa: PTH116 (a Path for each of 100,000 is slow)


def sizes(paths: Iterable[str]) -> Iterator[int]:
    """How many bytes each image has, without reading them; -1 where that is unknown.

    Args:
        paths: Files and addresses of records; those of one TFRecord file follow each other.
    """
    looked_into, view = "", memoryview(b"")
    for path in paths:
        file, place, key = split_address(path)
        try:
            if place is None:
                yield os.stat(file).st_size  # noqa: PTH116 (as above)
                continue
            if is_parquet(file):
                yield len(read_image(file, place, key or ""))
                continue
            if file != looked_into:
                looked_into, view = file, look_into(Path(file))
            yield len(_image_in(record_in(view, Path(file), place), file, place, key))
        except OSError:  # reported when it is read
            yield -1

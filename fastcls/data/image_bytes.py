"""The one door to a sample: where it is, its bytes, its state, its size; wherever that is.

A sample is a file, a record of a TFRecord file, a row of a Parquet file, or a member of a tar file; on this
machine or at a URL.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fastcls import files, storage
from fastcls.data.parquet import is_parquet, read_image
from fastcls.data.tar import is_tar, read_member
from fastcls.data.tf_example import parse_example
from fastcls.data.tfrecord import DamagedRecordError, look_into, read_record, record_in, split_address
from fastcls.storage.listings import listed

ENCODED = "image/encoded"
# Where the image of a record is, unless its address says so, in this order: TensorFlow's image scripts; TFDS
# and Kaggle; FiftyOne; TensorFlow's tutorial.
IMAGE_KEYS = (ENCODED, "image", "image_bytes", "image_raw")
_END_BYTES = 4096
_FRESH_S = 60  # as long a look at a remote file that holds many images counts


class State(NamedTuple):
    """What changes when a file's bytes do; of an object at a URL, its size and stamp."""

    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


def located(root: str | Path, path: str) -> str:
    """Where the file of a sample is, as all functions of this module take it: the only place that decides it.

    >>> [
    ...     located("/photos", "a.jpg"),
    ...     located("s3://bucket/photos", "a.jpg"),
    ...     located("/x", "https://h/a.jpg"),
    ... ]
    ['/photos/a.jpg', 's3://bucket/photos/a.jpg', 'https://h/a.jpg']
    """
    return path if storage.is_url(path) else os.path.join(root, path)  # noqa: PTH118 (10 times quicker)


def read_bytes(path: str | Path) -> bytes:
    """The bytes of an image file, or of the image that a record holds.

    Args:
        path: A file, or the address of a record (`FILE.tfrecord#PLACE`, or `FILE.tfrecord#PLACE:KEY`) or of a
            row (`FILE.parquet#ROW:COLUMN`) or of a member (`FILE.tar#PLACE:SIZE`).

    Raises:
        OSError: It cannot be read; `strerror`, or else the message, says why.
    """
    file, place, key = split_address(os.fspath(path))
    if place is None and storage.is_url(file):
        return storage.read(file)
    if place is None:
        with files.open_file(file) as opened:
            return opened.read()
    if is_parquet(file):
        return read_image(file, place, key or "")
    if is_tar(file):
        return read_member(file, place, int(key or 0))
    return bytes(_image_in(memoryview(read_record(Path(file), place)), file, place, key))


def read_stated(path: str) -> tuple[bytes, State]:
    """The bytes of an image, and the state of its file from before they were read.

    Raises:
        OSError: It cannot be read.
    """
    if storage.is_url(path) and split_address(path)[1] is None:
        data, found = storage.read_whole(path)
        return data, State(*found, 0)
    state = stat(path)
    return read_bytes(path), state


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
    is_local = place is None and not storage.is_url(file)
    return files.file_digest(Path(file)) if is_local else files.digest(read_bytes(path))


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
    if place is not None or storage.is_url(file):
        return digest_or_blank(path)
    try:
        with files.open_file(file) as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - _END_BYTES))
            return files.digest(opened.read())
    except OSError:
        return ""


def stat(path: str | Path) -> State:
    """State of the file that holds an image.

    Raises:
        OSError: It cannot be read.
    """
    text = os.fspath(path)
    file = file_of(text)
    if storage.is_url(file):
        found = listed(file)
        known = found[0].stat(found[1]) if found else None
        is_shared = file != text
        known = known or (
            _recent(file, int(time.monotonic() / _FRESH_S)) if is_shared else storage.stat(file)
        )
        return State(*known, 0)
    told = os.stat(file)  # noqa: PTH116 (a Path for each of 100,000 is slow)
    return State(told.st_size, told.st_mtime_ns, told.st_ctime_ns)


@functools.lru_cache(maxsize=1024)
def _recent(url: str, _minute: int) -> storage.Stat:
    return storage.stat(url)


def sizes(paths: Iterable[str]) -> Iterator[int]:
    """How many bytes each image has, without reading them; -1 where that is unknown.

    Args:
        paths: Files and addresses of records; those of one TFRecord file follow each other. Of what is at a
            URL, the size is known where its folder has been listed.
    """
    looked_into, view = "", memoryview(b"")
    for path in paths:
        file, place, key = split_address(path)
        try:
            if place is not None and is_tar(file):
                yield int(key or 0)
                continue
            if storage.is_url(file):
                found = listed(file) if place is None else None
                known = found[0].stat(found[1]) if found else None
                yield known.size if known else -1
                continue
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

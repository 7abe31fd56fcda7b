"""Tar files: the members of one, found by where their bytes begin.

The address of a member is `FILE.tar#PLACE:SIZE`: the offset of its first byte, padded with zeros so that
sorted addresses are in file order, and how many bytes it has. Nothing but these bytes is read.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastcls import files, storage
from fastcls.storage.ranged import open_url

SUFFIX = ".tar"
_BUFFER = (
    8 << 20
)  # of a file at a URL: its members are small, and asking for each takes longer than reading all


class DamagedTarError(OSError):
    """A member cannot be read; the message says why and where."""


class Member(NamedTuple):
    """A file inside a tar file: its name, and where its bytes are."""

    name: str
    place: int
    size: int


def is_tar(name: str) -> bool:
    """Whether a file name is one of tar files that are not compressed.

    >>> [is_tar(name) for name in ("train-000.tar", "train-000.tar.gz", "a.jpg")]
    [True, False, False]
    """
    return name.lower().endswith(SUFFIX)


def read_member(file: str, place: int, size: int) -> bytes:
    """The bytes of a member.

    Raises:
        OSError: They cannot be read, or the file ends inside of them.
    """
    if storage.is_url(file):
        data = storage.read(file, place, place + size)
    else:
        with files.open_file(file) as opened:
            opened.seek(place)
            data = opened.read(size)
    if len(data) < size:
        raise DamagedTarError(f"{file} ends inside the member at {place}: it is truncated")
    return data


def members(file: Path) -> Iterator[Member]:
    """The regular files in a tar file, in its order.

    Raises:
        DamagedTarError: It is no tar file, is compressed, or ends inside of a member.
        OSError: It cannot be read.
    """
    opened = open_url(str(file), _BUFFER) if storage.is_url(os.fspath(file)) else files.open_file(file)
    with opened:
        try:
            with tarfile.open(fileobj=opened, mode="r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # it keeps all of them otherwise
                    if member.isreg() and not member.issparse():
                        yield Member(member.name, member.offset_data, member.size)
        except tarfile.TarError as error:
            raise DamagedTarError(f"{file} is no tar file, or is damaged: {error}") from error

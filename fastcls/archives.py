"""Zip archives, such as `.keras` files: what we add to them, and how it is read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MOST_BYTES = 1 << 28  # more is an archive that is made to fill the memory


def read_json(archive: zipfile.ZipFile, name: str) -> Any:
    """Read a JSON file in an archive, unless it unpacks to more than memory should be asked for.

    Raises:
        ValueError: It is larger than anything that is meant, or no JSON.
        KeyError: There is none.
    """
    if archive.getinfo(name).file_size > _MOST_BYTES:
        raise ValueError(f"{name} is too large")
    return json.loads(archive.read(name))


@contextlib.contextmanager
def extended(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive to add members.

    Raises:
        OSError: The disk fails.
    """
    with zipfile.ZipFile(path, "a") as archive:
        if not archive.namelist():
            # What cannot be read is no archive to zipfile, which would append another one.
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        yield archive

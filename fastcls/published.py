"""Files that several processes may make at once, on several machines: the first to finish gives its place."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from fastcls import files

# What file systems without hard links say.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def publish(temporary: Path, path: Path) -> bool:
    """Flush a file to the disk and give it its place, unless there is one already, which stays.

    Args:
        temporary: The file, on the same file system; it stays.
        path: Its place.

    Returns:
        Whether it is this file that has the place.
    """
    files.sync(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        # A server may have made the link, and its answer may have been lost: then the request was repeated.
        return _is_same(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        os.replace(temporary, path)  # noqa: PTH105 (the same call)
    files.sync(path.parent)
    return True


def publish_bytes(data: bytes, path: Path) -> bool:
    """`publish` for a small file: it has all its bytes as soon as it is there."""
    with files.temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        temporary.write_bytes(data)
        return publish(temporary, path)


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False

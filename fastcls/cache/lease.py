"""One extraction at a time fills a cache: the next one waits, and then finds the rows there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from fastcls import files

_FILE = ".lease"
_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FILE = -1
logger = logging.getLogger(__name__)


class Leases:
    """The caches that this process alone fills; used as a context manager, they are released at the end.

    A lease ends with the process, however that ends. File systems without locks are used without leases.
    """

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}

    def __enter__(self) -> Leases:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(list(self._held))

    def take(self, folders: Iterable[Path]) -> bool:
        """Wait until no other process fills these caches, and keep others from it.

        Args:
            folders: Of caches, made if they are not there.

        Returns:
            Whether something may have changed in any cache that is held: what was read must be read again.
        """
        wanted = {Path(os.path.realpath(folder)) for folder in folders}
        if wanted <= self._held.keys():
            return False
        wanted |= self._held.keys()
        self.release(list(self._held))
        for folder in sorted(wanted):  # all in one order, or two processes could wait for each other
            self._held[folder] = _acquire(folder)
        return True

    def release(self, folders: Iterable[Path]) -> None:
        """Release caches; a folder that stayed empty is removed."""
        for folder in folders:
            place = Path(os.path.realpath(folder))
            descriptor = self._held.pop(place, _NO_FILE)
            if descriptor == _NO_FILE:
                continue
            with contextlib.suppress(OSError):
                if [entry.name for entry in place.iterdir()] == [_FILE]:
                    (place / _FILE).unlink()
                    place.rmdir()
            os.close(descriptor)


def _acquire(folder: Path) -> int:
    """The descriptor of a locked file in a folder."""
    path = folder / _FILE
    while True:
        files.make_folder(folder)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # it was released and removed just now
            continue
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            return _NO_FILE  # a write will say so
        try:
            _lock(descriptor, folder)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every network file system has locks
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("Another process is filling %s. Waiting for it to end", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

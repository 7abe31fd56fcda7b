"""One extraction at a time fills a cache: the next one waits, and then finds the rows there.

Machines that share the work of one extraction fill a cache together; they plan one after the other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from fastcls import files

_FILE = ".lease"
_PLANNING = ".planning"  # of those that fill a cache together
_FILLED = logging.WARNING, "Another process is filling %s. Waiting for it to end"
_PLANNED = logging.INFO, "Another process plans or writes tables in %s. Waiting for it"
_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FILE = -1
logger = logging.getLogger(__name__)


class Leases:
    """The caches that this process alone fills; used as a context manager, they are released at the end.

    A lease ends with the process, however that ends. File systems without locks are used without leases.

    Args:
        is_shared: Fill them together with other processes that say so. One of them at a time plans.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self._is_shared = is_shared
        self._held: dict[Path, _Lease] = {}

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
            self._held[folder] = _Lease.acquire(folder, is_shared=self._is_shared)
        return True

    @property
    def alone(self) -> list[Path]:
        """Of the caches that are held, and may be shared, those that no other process filled when taken."""
        return [folder for folder, lease in self._held.items() if lease.was_alone]

    def end_planning(self) -> None:
        """Let the next process plan, of those that fill the caches together."""
        for lease in self._held.values():
            lease.end_planning()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write what the processes that fill the caches together all write, one after the other."""
        for folder in sorted(self._held):
            self._held[folder].begin_planning(folder)
        try:
            yield
        finally:
            self.end_planning()

    def last(self) -> list[Path]:
        """Of the caches that are held, those that no other process fills any more; only these stay held."""
        return [folder for folder, lease in self._held.items() if lease.is_last()]

    def release(self, folders: Iterable[Path]) -> None:
        """Release caches; a folder that stayed empty is removed."""
        for folder in folders:
            place = Path(os.path.realpath(folder))
            lease = self._held.pop(place, None)
            if not lease:
                continue
            with contextlib.suppress(OSError):
                names = {entry.name for entry in place.iterdir()}
                if names <= {_FILE, _PLANNING}:
                    for name in names:
                        (place / name).unlink()
                    place.rmdir()
            lease.close()


class _Lease:
    """Locks of one cache: of its lease, and of who plans among those that share that."""

    def __init__(
        self, lease: int, planning: int = _NO_FILE, *, is_shared: bool, was_alone: bool = False
    ) -> None:
        self._lease, self._planning, self.was_alone = lease, planning, was_alone
        self._is_shared = is_shared

    @classmethod
    def acquire(cls, folder: Path, *, is_shared: bool) -> _Lease:
        if not is_shared:
            return cls(_acquire(folder, _FILE), is_shared=False)
        planning = _acquire(folder, _PLANNING)
        try:
            lease, was_alone = _share(folder)
        except BaseException:
            _close(planning)
            raise
        return cls(lease, planning, is_shared=True, was_alone=was_alone)

    def begin_planning(self, folder: Path) -> None:
        if self._is_shared and self._planning == _NO_FILE:
            self._planning = _acquire(folder, _PLANNING)

    def end_planning(self) -> None:
        _close(self._planning)
        self._planning = _NO_FILE

    def is_last(self) -> bool:
        return self._lease != _NO_FILE and _try(self._lease)

    def close(self) -> None:
        _close(self._lease)
        self.end_planning()


def _close(descriptor: int) -> None:
    if descriptor != _NO_FILE:
        os.close(descriptor)


def _share(folder: Path) -> tuple[int, bool]:
    """The descriptor of a file that several have locked, and whether nobody else had."""
    while True:
        descriptor = _open(folder / _FILE)
        if descriptor == _NO_FILE:
            return descriptor, False
        try:
            is_alone = _try(descriptor)
            _lock(descriptor, folder, fcntl.LOCK_SH)
            if _is_at(descriptor, folder / _FILE):
                return descriptor, is_alone
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _acquire(folder: Path, name: str) -> int:
    """The descriptor of a locked file in a folder."""
    path = folder / name
    while True:
        descriptor = _open(path)
        if descriptor == _NO_FILE:
            return descriptor
        try:
            _lock(descriptor, folder, fcntl.LOCK_EX, _FILLED if name == _FILE else _PLANNED)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> int:
    """The descriptor of a file, made if it is not there; `_NO_FILE` where nothing can be written."""
    while True:
        files.make_folder(path.parent)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # it was released and removed just now
            continue
        except OSError as error:
            if error.errno not in _CANNOT_WRITE:
                raise
            return _NO_FILE  # a write will say so


def _lock(descriptor: int, folder: Path, kind: int, message: tuple[int, str] = _FILLED) -> None:
    with contextlib.suppress(OSError):  # not every network file system has locks
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            level, text = message
            logger.log(level, text, folder)
            fcntl.flock(descriptor, kind)


def _try(descriptor: int) -> bool:
    """Whether a file could be locked for this process alone; not so where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

"""Where the files of a board are: in a folder, or in an object store."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fastcls import files, storage
from fastcls.files import PathLike
from fastcls.published import publish_bytes


class Place:
    """A folder of small files, most of which never change.

    Attributes:
        has_locks: Whether the lease of the cache tells who is at work (see `lease.Leases`).
    """

    has_locks = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        files.make_folder(folder)
        files.remove_leftovers(folder)

    def __str__(self) -> str:
        return str(self._folder)

    def names(self) -> list[str]:
        """The files that are there."""
        entries = os.listdir(self._folder)  # noqa: PTH208 (of thousands)
        return [entry for entry in entries if entry[0] != "."]

    def create(self, name: str, data: bytes) -> bool:
        """Make a file, whole and at once, if it is not there; returns whether it was not."""
        return publish_bytes(data, self._folder / name)

    def write(self, name: str, data: bytes) -> None:
        """Write as many bytes as before to a file, in its place."""
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is not there."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Remove a file that may be there."""
        (self._folder / name).unlink(missing_ok=True)


class StoredPlace(Place):
    """The same in an object store, which creates an object only if there is none."""

    has_locks = False

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        return self._url

    def names(self) -> list[str]:
        """See `Place`."""
        return [name for name, _ in storage.walk(self._url) if "/" not in name]

    def create(self, name: str, data: bytes) -> bool:
        """See `Place`."""
        return self._send(name, data, only_new=True)

    def write(self, name: str, data: bytes) -> None:
        """See `Place`."""
        self._send(name, data, only_new=False)

    def read(self, name: str) -> bytes | None:
        """See `Place`."""
        try:
            return storage.read(storage.join(self._url, name))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """See `Place`."""
        storage.remove(storage.join(self._url, name))

    def _send(self, name: str, data: bytes, *, only_new: bool) -> bool:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return storage.send(Path(file.name), storage.join(self._url, name), only_new=only_new)


def place_of(cache: PathLike, folder: str) -> Place:
    """A folder of a cache, which may be a URL."""
    if isinstance(cache, str) and storage.is_url(cache):
        return StoredPlace(storage.join(cache, folder))
    return Place(Path(cache) / folder)

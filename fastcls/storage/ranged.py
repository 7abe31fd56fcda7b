"""An object as a file to read from, part by part."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from fastcls import storage

_BUFFER = 4 << 20


class _Ranged(io.RawIOBase):
    """Each read is a request for just these bytes."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url, self._place = url, 0
        self._size = storage.stat(url).size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        stop = min(self._place + len(view), self._size)
        if stop <= self._place:
            return 0
        data = storage.read(self._url, self._place, stop)
        view[: len(data)] = data
        self._place += len(data)
        return len(data)


def open_url(url: str, buffer: int = _BUFFER) -> BinaryIO:
    """Open an object to read it, from anywhere in it.

    Args:
        url: Of the object.
        buffer: Bytes that are asked for at least.

    Raises:
        FileNotFoundError: There is none.
        OSError: It cannot be read.
    """
    return cast(BinaryIO, io.BufferedReader(_Ranged(url), buffer))

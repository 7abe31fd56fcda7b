"""The file that HDF5 writes a shard to."""

from __future__ import annotations

import io
from typing import Any


class Disk(io.FileIO):
    """The file that HDF5 writes to; HDF5 never sees a full disk.

    If HDF5 cannot write while it closes a file, the process ends with a segmentation fault later. So writing
    appears to succeed, and `check` raises the error, or a Ctrl-C that came meanwhile.
    """

    _error: BaseException | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while rest and not self._error:
                rest = rest[super().write(rest) :]
        except BaseException as error:
            self._error = error
        return len(data)

    def check(self) -> None:
        """Raise the first error there was."""
        if self._error:
            raise self._error

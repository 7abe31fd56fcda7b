"""Sizes of folders, and in words."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def format_bytes(count: int) -> str:
    """A number of bytes for people.

    >>> format_bytes(512), format_bytes(1536), format_bytes(5 * 2**30), format_bytes(2**60)
    ('512 bytes', '1.5 KiB', '5.0 GiB', '1048576.0 TiB')
    """
    power = min(max(0, count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}" if power else f"{count} bytes"


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder; links are not followed, and what cannot be read counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # another process may remove it at this moment
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 (of thousands)
    return total

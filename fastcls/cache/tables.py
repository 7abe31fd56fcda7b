"""CSV tables of a cache: written whole, and refused when they are damaged."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fastcls import files
from fastcls.errors import CacheError

_Row = TypeVar("_Row")


def write_table(path: Path, columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> None:
    """Write a table atomically."""
    with files.atomic_path(path) as temporary, temporary.open("w", **files.CSV_TEXT) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)


def read_table(path: Path, columns: Sequence[str], make: Callable[..., _Row]) -> list[_Row]:
    """Read a table.

    Args:
        path: The CSV file.
        columns: Its first line.
        make: Makes a row from one string per column; raises ValueError when it cannot.

    Returns:
        The rows; none if there is no such file.

    Raises:
        CacheError: The file is not such a table.
    """
    if not path.exists():
        return []
    try:
        with path.open(**files.CSV_TEXT) as file:
            lines = csv.reader(file, strict=True)
            if next(lines, None) != list(columns):
                raise ValueError(f"its first line is not {','.join(columns)}")
            return [make(*values) for values in _complete(lines, len(columns))]
    except (ValueError, csv.Error) as error:
        raise CacheError(
            f"{path} is damaged: {error}. Run the same `fastcls extract` again: it makes the table anew, and "
            "no bottleneck is lost"
        ) from error


def read_header(path: Path) -> list[str]:
    """The names of a table's columns; none if there is no such table, or a damaged one."""
    if not path.exists():
        return []
    with path.open(**files.CSV_TEXT) as file, contextlib.suppress(csv.Error):
        return next(csv.reader(file), [])
    return []


def _complete(lines: Any, count: int) -> Iterable[list[str]]:
    for values in lines:
        if len(values) != count:
            raise ValueError(f"line {lines.line_num} has {len(values)} values, not {count}")
        yield values

"""CSV tables with fixed columns: the one place that writes them and reads them back."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fastcls import files

_Row = TypeVar("_Row")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write a table; returns its number of rows."""
    count = 0
    with path.open("w", **files.CSV_TEXT) as file:
        writer = csv.writer(file, lineterminator="\n")
        # "\r" ends a line for readers, but Python 3.11 quotes only characters of the line terminator.
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in itertools.chain([columns], rows):
            (quoting if any("\r" in str(cell) for cell in row) else writer).writerow(row)
            count += 1
    return count - 1


def read_table(path: Path, columns: Sequence[str], make: Callable[..., _Row]) -> list[_Row]:
    """Read a table.

    Args:
        path: The CSV file.
        columns: Its header.
        make: Makes a row from one string per column; raises ValueError when it cannot.

    Raises:
        ValueError: The file is not such a table.
        OSError: It cannot be read.
    """
    try:
        with path.open(**files.CSV_TEXT) as file:
            lines = csv.reader(file, strict=True)
            if next(lines, None) != list(columns):
                raise ValueError(f"its first line is not {','.join(columns)}")
            return [make(*values) for values in _complete(lines, len(columns))]
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _complete(lines: Any, count: int) -> Iterable[list[str]]:
    for values in lines:
        if len(values) != count:
            raise ValueError(f"line {lines.line_num} has {len(values)} values, not {count}")
        yield values

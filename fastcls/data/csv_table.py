"""CSV tables with fixed columns: the one place that writes them and reads them back."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fastcls import files

_Row = TypeVar("_Row")
_BLOCK = 4096  # rows that are in memory at once


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write a table; returns its number of rows."""
    count = 0
    with path.open("w", **files.CSV_TEXT) as file:
        for lines in _blocks(itertools.chain([columns], rows)):
            file.write(as_csv(lines))
            count += len(lines)
    return count - 1


def as_csv(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as lines that end with a line feed."""
    text = _as_text(rows, csv.QUOTE_MINIMAL)
    # "\r" ends a line for readers, but Python 3.11 quotes only characters of the line terminator.
    return "".join(map(_as_line, rows)) if "\r" in text else text


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
    return [row for block in read_columns(path, columns) for row in map(make, *block)]


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[list[tuple[str, ...]]]:
    """Read a table in blocks of some thousand rows: for each block, the strings of each column.

    Args:
        path: The CSV file.
        columns: Its header.

    Raises:
        ValueError: The file is not such a table.
        OSError: It cannot be read.
    """
    try:
        with path.open(**files.CSV_TEXT) as file:
            lines = csv.reader(file, strict=True)
            if next(lines, None) != list(columns):
                raise ValueError(f"its first line is not {','.join(columns)}")
            for block in _blocks(lines):
                wrong = {*map(len, block)} - {len(columns)}
                if wrong:
                    raise ValueError(f"it has a line of {min(wrong)} values, not {len(columns)}")
                yield list(zip(*block, strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _blocks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while block := list(itertools.islice(iterator, _BLOCK)):
        yield block


def _as_text(rows: Iterable[Sequence[Any]], quoting: int) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return text.getvalue()


def _as_line(row: Sequence[Any]) -> str:
    quoting = csv.QUOTE_ALL if any("\r" in str(cell) for cell in row) else csv.QUOTE_MINIMAL
    return _as_text([row], quoting)

"""What all table files are read as: named columns, and rows of text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, str]
Rows = Iterator[tuple[int, Row]]
# Column names that say where an image is, most telling first.
PATH_NAMES = (
    *("path", "filename", "filenames", "file", "file_name", "filepath", "file_path", "image", "image_path"),
    *("img_path", "image_file", "image_file_path", "image_name", "img_name", "img", "image_id", "id_code"),
)
# Those that may as well say something else.
VAGUE_NAMES = ("id", "name")
_MISSING = frozenset({"", "nan", "null", "<na>", "n/a", "#n/a"})
_PEEKED = 20


@dataclass(frozen=True)
class Grid:
    """A table file that is open.

    Attributes:
        columns: Their names.
        rows: The number of each row, as users count them, and its cells by column.
        notes: How it is read, where that had to be found out.
        pictures: The column that holds images themselves; its cells are their addresses.
        single: Columns that are known to hold one label each.
        twice: Names that several columns have; all but the first of these are "NAME (column NUMBER)".
    """

    columns: tuple[str, ...]
    rows: Rows
    notes: tuple[str, ...] = ()
    pictures: str = ""
    single: frozenset[str] = frozenset()
    twice: frozenset[str] = frozenset()

    def peek(self) -> tuple[list[Row], Rows]:
        """The first rows, and all rows."""
        first = list(itertools.islice(self.rows, _PEEKED))
        return [row for _, row in first], itertools.chain(first, self.rows)


IsImage = Callable[[str], bool]
# Opens a table: its path, the delimiter that was asked for, and what tells the path of an image.
Opener = Callable[[Path, "str | None", IsImage], AbstractContextManager[Grid]]


def as_text(value: Any) -> str:
    """A value of JSON or Parquet as the cell of a table.

    >>> [as_text(value) for value in (None, float("nan"), 3.0, True, ["a", "b"])]
    ['', '', '3.0', 'True', '["a", "b"]']
    """
    if value is None or value != value:  # not a number
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def is_missing(cell: str) -> bool:
    """Whether a cell has no value, also as pandas, spreadsheets and databases write it."""
    return cell.strip().casefold() in _MISSING

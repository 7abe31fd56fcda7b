"""The table of a split folder, `split.csv`: only what it lists belongs to the data set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastcls import files
from fastcls.data.csv_table import read_table, write_table
from fastcls.data.readers.entries import SPLITS, some, split_named
from fastcls.errors import DataError
from fastcls.wording import count_of

SPLIT_TABLE = "split.csv"  # in a complete split folder
SPLIT_PLAN = ".split-plan.csv"  # there while some of its files may be missing
_COLUMNS = ("path", "label", "split", "group", "digest", "source")
_HEADER = ",".join(_COLUMNS).encode()


class SplitRow(NamedTuple):
    """A line of split.csv, its fields in the order of `_COLUMNS`.

    The path is relative to the split folder or, while the image has no split, to its split's folder.
    """

    path: str
    class_name: str
    split: str
    group: str
    digest: str
    source: str


def has_split_rows(table: Path) -> bool:
    """Whether a file begins like the table of a split folder; a user's file may have the same name."""
    if not table.is_file():
        return False
    with table.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def read_split_rows(table: Path) -> list[SplitRow]:
    """The rows of the table of a split folder, or of its plan.

    Raises:
        DataError: It is damaged, or something else.
    """
    try:
        rows = read_table(table, _COLUMNS, SplitRow)
        if not all(map(_is_in_place, rows)) or len({row.path for row in rows}) < len(rows):
            raise ValueError("each row needs a path SPLIT/LABEL/... of its own")
    except ValueError as error:
        raise DataError(
            f"{table} was not made by split-data or is damaged: {error}. Run split-data into a new folder."
        ) from error
    return rows


def _is_in_place(row: SplitRow) -> bool:
    is_below = row.path.startswith(f"{row.split}/{row.class_name}/") and ".." not in row.path.split("/")
    return is_below and row.split in SPLITS


def write_split_rows(table: Path, rows: Iterable[SplitRow]) -> None:
    """Write the table of a split folder, or its plan."""
    with files.atomic_path(table) as temporary:
        write_table(temporary, _COLUMNS, rows)


def require_named(root: Path, rows: Iterable[SplitRow], images: Iterable[str]) -> None:
    """Refuse images in the folders of the splits that the table does not name.

    The same images may be in another split.

    Raises:
        DataError: There are such images.
    """
    named = {row.path for row in rows}
    unnamed = [path for path in images if path not in named and split_named(path.split("/")[0])]
    if unnamed:
        raise DataError(
            f"{root} holds {count_of(len(unnamed), 'image')} that its {SPLIT_TABLE} does not name: "
            f"{some(unnamed)}. The "
            "same images may be in another split. Move them into the source and run split-data again, or "
            f"delete {SPLIT_TABLE} to use the folders as they are."
        )


def missing_rows(rows: Sequence[SplitRow], images: Iterable[str]) -> list[SplitRow]:
    """Rows whose images are not there."""
    present = set(images)
    return [row for row in rows if row.path not in present]

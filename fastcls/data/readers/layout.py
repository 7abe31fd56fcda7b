"""What the columns of a table are: paths, labels, splits, groups, or a column of 0 and 1 per class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastcls.data.readers.grid import PATH_NAMES, VAGUE_NAMES, Grid, Row
from fastcls.errors import DataError, OptionError
from fastcls.specs.data import ReadSpec

# Other columns of a table with one column per class: no class can have one of these names.
RESERVED = ("path", "split", "group", "digest")
LABEL_COLUMNS = ("label", "labels")
# These may also be the name of a class that has a column of 0 and 1.
_LESS_TELLING = (
    *("class", "class_name", "classname", "class_label", "label_name", "category", "category_name"),
    *("target", "tags", "tag"),
)
_INDEX = ("", "unnamed: 0")  # as pandas writes it, and reads it back
BITS = {
    **{"0": False, "0.0": False, "false": False},
    **{"1": True, "1.0": True, "true": True},
}


@dataclass(frozen=True)
class Layout:
    """Which column holds what.

    Attributes:
        path: Of the paths.
        label: Of the labels; "" where each class has a column.
        classes: Columns of 0 and 1.
        split: Of the splits; "" if there is none.
        group: Of the groups; "" if there is none.
        is_told: Whether the user named the column of the labels.
        notes: What is not plain about it.
    """

    path: str
    label: str
    classes: tuple[str, ...]
    split: str
    group: str
    is_told: bool
    notes: tuple[str, ...] = ()


def find_layout(
    table: Path, grid: Grid, head: Sequence[Row], spec: ReadSpec, is_image: Callable[[str], bool]
) -> Layout:
    """Find out which column holds what.

    Args:
        table: The table, for messages.
        grid: The table that was opened.
        head: Its first rows.
        spec: What the user says.
        is_image: Whether a cell names an image.

    Raises:
        DataError: The columns cannot be told, or one that the user names is not there, or is there twice.
        OptionError: The user names a column for two purposes.
    """
    names = _Names(table, grid)
    names.require_different(spec)
    told = names.named(spec.label_column, "--label-column")
    label = told or names.first(LABEL_COLUMNS) or (min(grid.single) if len(grid.single) == 1 else "")
    path = names.named(spec.path_column, "--path-column") or _path_column(grid, names, head, label, is_image)
    if not path or (len(grid.columns) < 2 and not label):
        missing = [name for name, found in (("path", path), ("label", label)) if not found]
        raise DataError(
            f"{table} has no column {' and no column '.join(missing)}. Received: {names.received}. Name the "
            "columns with --path-column and --label-column; plain are path,label (optionally group, split)."
        )
    split = names.named(spec.split_column, "--split-column") or names.first(["split"])
    group = names.first(["group"])
    rest = _rest(grid.columns, {path, split, group, names.first(["digest"])})
    label = label or _label_column(rest, head, names)
    if not label:
        _require_class_columns(table, rest, spec, names, grid.twice)
    notes = _notes(path, label, is_told=(bool(spec.path_column), bool(told)), is_plain=not grid.pictures)
    classes = () if label else tuple(sorted(rest))
    return Layout(path, label, classes, split, group, bool(told) or label in grid.single, notes)


def has_label_column(columns: Sequence[str]) -> bool:
    """Whether a column is named like one of labels."""
    return any(name.lower() in (*LABEL_COLUMNS, *_LESS_TELLING) for name in columns)


class _Names:
    """The column names of a table, compared in any case."""

    def __init__(self, table: Path, grid: Grid) -> None:
        self._table, self._columns, self._twice = table, grid.columns, grid.twice
        self._lowered = {name.lower(): name for name in reversed(grid.columns)}

    @property
    def received(self) -> str:
        """The columns, for a message."""
        return ", ".join(self._columns) or "an empty line"

    def first(self, names: Sequence[str]) -> str:
        """The first of some names that is a column; "" if none is."""
        return self._once(next((self._lowered[name] for name in names if name in self._lowered), ""))

    def named(self, asked: str | None, flag: str) -> str:
        """The column that the user means, by name or number; "" if the user says nothing."""
        if asked is None:
            return ""
        if asked in self._columns or asked.lower() in self._lowered:
            return self._once(asked if asked in self._columns else self._lowered[asked.lower()])
        if asked.isdecimal() and 0 < int(asked) <= len(self._columns):
            return self._columns[int(asked) - 1]
        raise DataError(f"{self._table} has no column {asked!r} ({flag}). Received: {self.received}.")

    def require_different(self, spec: ReadSpec) -> None:
        """Raise OptionError if the user names one column for two purposes."""
        flags: dict[str, str] = {}
        for flag, asked in _asked(spec):
            column = self.named(asked, flag)
            if column in flags:
                raise OptionError(
                    f"{flags[column]} and {flag} name the same column of {self._table}: {column!r}. Name "
                    f"another for one of them. Columns: {self.received}."
                )
            flags |= {column: flag} if column else {}

    def _once(self, name: str) -> str:
        """A name; raises DataError if several columns have it, as nothing says which is meant."""
        if name in self._twice:
            raise DataError(
                f"{self._table} has several columns {name!r}. Rename all but one, or choose one by number "
                f"with --path-column, --label-column or --split-column. Received: {self.received}."
            )
        return name


def _asked(spec: ReadSpec) -> list[tuple[str, str | None]]:
    """The flags that name columns, and what the user says."""
    return [
        ("--path-column", spec.path_column),
        ("--label-column", spec.label_column),
        ("--split-column", spec.split_column),
    ]


def _path_column(
    grid: Grid, names: _Names, head: Sequence[Row], label: str, is_image: Callable[[str], bool]
) -> str:
    """By its name, else the one column in which all cells are images."""
    found = grid.pictures or names.first(PATH_NAMES)
    if found:
        return found
    filled = [
        name
        for name in grid.columns
        if name != label and head and all(is_image(row.get(name, "")) for row in head)
    ]
    return filled[0] if len(filled) == 1 else names.first(VAGUE_NAMES)


def _rest(columns: Sequence[str], known: set[str]) -> list[str]:
    """The columns that may tell of classes."""
    own = columns[1:] if columns and columns[0].lower() in _INDEX else columns
    return [name for name in own if name not in known]


def _label_column(rest: Sequence[str], head: Sequence[Row], names: _Names) -> str:
    """The column of labels by its name, or because it is the only one; "" for a column per class."""
    are_bits = all(row.get(name, "").strip().lower() in BITS for row in head for name in rest)
    if len(rest) > 1 and are_bits:
        return ""
    named = names.first(_LESS_TELLING)
    return named if named in rest else rest[0] if len(rest) == 1 else ""


def _require_class_columns(
    table: Path, columns: Sequence[str], spec: ReadSpec, names: _Names, twice: frozenset[str]
) -> None:
    if not columns:
        raise DataError(f"{table} has no column label. Received: {names.received}.")
    if spec.label_separator is not None:
        raise DataError(
            f"{table} has no column labels to split. Remove --label-separator for a table with one column of "
            f"0 and 1 per class, or name the column with --label-column. Received: {names.received}."
        )
    if twice & {*columns} or "" in columns:
        raise DataError(f"{table} has duplicate or empty column names. Received: {names.received}.")


def _notes(path: str, label: str, *, is_told: tuple[bool, bool], is_plain: bool) -> tuple[str, ...]:
    found = []
    if is_plain and not is_told[0] and path.lower() != "path":
        found.append(f"paths in {path!r}")
    if label and not is_told[1] and label.lower() not in LABEL_COLUMNS:
        found.append(f"labels in {label!r}")
    return tuple(found)

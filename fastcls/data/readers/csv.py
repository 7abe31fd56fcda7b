"""CSV tables of images: a label each, several joined by a separator, or a column of 0 and 1 per class."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastcls.data.readers.entries import SPLIT_NAMES, SPLITS, Entry, Table, some
from fastcls.data.tfrecord import split_address
from fastcls.errors import DataError, OptionError
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

# Other columns of a table with one column per class: no class can have one of these names.
RESERVED = ("path", "split", "group", "digest")
_LABEL_COLUMNS = frozenset({"label", "labels"})
_PATH_COLUMNS = ("path", "filename", "filenames", "file", "image")
_BITS = {"0": False, "0.0": False, "1": True, "1.0": True}
_Row = dict[str, str]
logger = logging.getLogger(__name__)


def read_csv(path: Path, *, label_separator: str | None = None, image_root: Path | None = None) -> Table:
    """Read a CSV of paths with a column `label`, `labels` joined by a separator, or a column per class.

    Args:
        path: The table; `group` and `split` are read where it has them.
        label_separator: What separates the labels of an image; None for one label per image, or for a
            table with a column per class.
        image_root: Folder that the paths are relative to; None for the table's own folder.

    Raises:
        DataError: The table cannot be read, contradicts itself, or names files that do not exist.
        OptionError: The separator is invalid.
    """
    _check_separator(label_separator)
    entries: dict[str, Entry] = {}
    with _opened(path) as (header, rows):
        layout = _layout(path, header, label_separator)
        for line, row in rows:
            entry = _entry(path, line, row, layout)
            if entries.setdefault(entry.path, entry) != entry:
                raise DataError(
                    f"{path}, line {line}: {entry.path!r} is listed twice with different labels, split or "
                    f"group. Received: {entry[1:]}, earlier: {entries[entry.path][1:]}. Remove one of the "
                    "rows."
                )
    _require_files(path, image_root or path.parent, entries)
    found = {name for entry in entries.values() for name in entry.class_names}
    if label_separator and max((len(e.class_names) for e in entries.values()), default=2) < 2:
        logger.warning("%s: no image has more than one label (separator: %r)", path, label_separator)
    unused = sorted(set(layout.class_columns) - found)
    if unused:
        logger.warning("%s has no images of class %s", path, some(unused))
    return Table(tuple(entries.values()), tuple(sorted(found | set(unused))), layout.task)


def is_split_table(path: Path) -> bool:
    """Whether split-data wrote a CSV for several labels per image; a user's file may have the same name."""
    with _opened(path) as (header, _):
        return set(RESERVED) <= set(header) and not _LABEL_COLUMNS & set(header)


def read_earlier_splits(path: Path) -> dict[str, str]:
    """The split of each digest in a table that split-data wrote for several labels per image.

    Raises:
        DataError: It is damaged, or something else.
    """
    with _opened(path) as (header, rows):
        is_ours = tuple(header[: len(RESERVED)]) == RESERVED
        splits = {row.get("digest", ""): row.get("split", "") for _, row in rows} if is_ours else {"": ""}
    if not set(splits.values()) <= set(SPLITS):
        raise DataError(
            f"{path} was not made by split-data for several labels per image, or is damaged. Expected the "
            f"columns {','.join(RESERVED)} and one per class. Received: {','.join(header)}. Choose another "
            "output folder."
        )
    return splits


def name_clash(class_names: Iterable[str]) -> str:
    """The name of a reserved column if a class has it too; else ""."""
    return min({*_LABEL_COLUMNS, *RESERVED} & {name.lower() for name in class_names}, default="")


class _Layout(NamedTuple):
    """Which column holds what, and how the labels are read from a row (and its line number)."""

    path_column: str
    read_labels: Callable[[_Row, int], tuple[str, ...]]
    task: Task
    class_columns: tuple[str, ...] = ()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[int, _Row]]]]:
    """The stripped column names, and the line number and cells (by column) of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            yield header, _numbered(reader, header)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}. Save it as UTF-8, separate cells with commas, and quote "
            "cells that contain commas."
        ) from error


def _numbered(reader: Any, header: Sequence[str]) -> Iterator[tuple[int, _Row]]:
    for row in reader:
        if any(row[len(header) :]):
            raise csv.Error(f"line {reader.line_num} has {len(row)} cells for {len(header)} columns")
        if row:
            yield reader.line_num, dict(zip(header, row, strict=False))


def _check_separator(separator: str | None) -> None:
    if separator is not None and (not separator.strip() or set(separator) & {"\n", "\r", '"'}):
        raise OptionError(
            "The label separator must be one or more characters such as '|': not only spaces, and no quotes. "
            f"Received: {separator!r}"
        )


def _layout(path: Path, header: Sequence[str], separator: str | None) -> _Layout:
    lowered = {name.lower(): name for name in reversed(header)}
    path_column = next((lowered[name] for name in _PATH_COLUMNS if name in lowered), None)
    label_column = next((lowered[name] for name in ("label", "labels") if name in lowered), None)
    if path_column is None or (len(header) < 2 and label_column is None):
        missing = [name for name, found in (("path", path_column), ("label", label_column)) if not found]
        received = ", ".join(header) or "an empty line"
        raise DataError(
            f"{path} has no column {' and no column '.join(missing)}. Received: {received}. "
            "The first line must be: path,label (optionally group, split), separated by commas."
        )
    if label_column is None:
        return _class_column_layout(path, header, path_column, separator)
    if separator is not None:
        return _Layout(
            path_column, lambda row, line: _divide(row.get(label_column, ""), separator), SEVERAL_LABELS
        )
    if label_column.lower() == "labels":
        raise DataError(
            f"{path} has a column {label_column!r}. Pass the separator between labels with "
            "--label-separator, or rename the column to label if each image has one label."
        )
    return _Layout(path_column, _one_label_reader(path, label_column), ONE_LABEL)


def _divide(cell: str, separator: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in cell.split(separator)} - {""}))


def _one_label_reader(path: Path, column: str) -> Callable[[_Row, int], tuple[str, ...]]:
    def read(row: _Row, line: int) -> tuple[str, ...]:
        if not row.get(column, "").strip():
            raise DataError(f"{path}, line {line}: the label is empty. Fill it in or remove the line.")
        return (row[column].strip(),)

    return read


def _class_column_layout(
    path: Path, header: Sequence[str], path_column: str, separator: str | None
) -> _Layout:
    columns = [name for name in header if name != path_column and name not in RESERVED]
    if separator is not None:
        raise DataError(
            f"{path} has no column labels to split. Remove --label-separator for a table with one column of "
            f"0 and 1 per class. Received: {', '.join(header)}."
        )
    if len(set(columns)) < len(columns) or "" in columns:
        raise DataError(f"{path} has duplicate or empty column names. Received: {', '.join(header)}.")

    columns.sort()

    def read(row: _Row, line: int) -> tuple[str, ...]:
        found = []
        for name in columns:
            bit = _BITS.get(row.get(name, "").strip())
            if bit is None:
                raise DataError(
                    f"{path}, line {line}: expected 0 or 1 for each class, as there is no label column. "
                    f"Received: {row.get(name, '').strip()!r} in column {name!r}."
                )
            if bit:
                found.append(name)
        return tuple(found)

    return _Layout(path_column, read, SEVERAL_LABELS, tuple(columns))


def _entry(path: Path, line: int, row: _Row, layout: _Layout) -> Entry:
    named = row.get(layout.path_column, "")
    if not named.strip():
        raise DataError(f"{path}, line {line}: the path is empty. Fill it in or remove the line.")
    split = row.get("split", "").strip()
    if split and split not in SPLIT_NAMES:
        raise DataError(
            f"{path}, line {line}: unknown split {split!r}. Use one of: {', '.join(SPLITS)}, or leave it "
            "empty."
        )
    labels = layout.read_labels(row, line)
    return Entry(Path(named).as_posix(), labels, SPLIT_NAMES.get(split, ""), row.get("group", "").strip())


def _require_files(table: Path, root: Path, paths: Iterable[str]) -> None:
    # Path.is_file raises for a name that is too long. A pipe is not a file: opening one may block forever.
    missing = [
        path
        for path in paths
        if not os.path.isfile(os.path.join(root, split_address(path)[0]))  # noqa: PTH113, PTH118 (quicker)
    ]
    if missing:
        raise DataError(
            f"{table} lists {len(missing)} files that do not exist or are not regular files: "
            f"{some(missing)}. Paths must be absolute or relative to {root}; use --image-root for another "
            "folder."
        )

"""The labels in the cells of a column: one each, several joined by a separator, or lists."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Callable, Collection
from pathlib import Path

from fastcls.data.names import nfc
from fastcls.data.readers.grid import is_missing
from fastcls.data.readers.layout import Layout
from fastcls.errors import DataError
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

# The labels of a cell; for a missing one of a column with one label each none, which is refused.
ReadLabels = Callable[[str], "tuple[str, ...]"]


def find_reader(
    table: Path, layout: Layout, cells: Collection[str], separator: str | None
) -> tuple[ReadLabels, Task, str]:
    """How the labels in a column are read, what is asked of an image, and what is not plain about it.

    Args:
        table: The table, for messages.
        layout: Its columns.
        cells: The different cells of the column of labels.
        separator: What the user says; None for one label each, or lists.

    Raises:
        DataError: A column `labels` does not say what separates the labels.
    """
    if separator is not None:
        return functools.partial(_divide, separator=separator), SEVERAL_LABELS, ""
    if _are_lists(cells):
        return _read_list, SEVERAL_LABELS, f"lists in {layout.label!r}"
    if layout.label.lower() == "labels" and not layout.is_told:
        raise DataError(
            f"{table} has a column {layout.label!r}. Pass the separator between labels with "
            f"--label-separator or, if each image has one label, --label-column {layout.label}."
        )
    return _read_one, ONE_LABEL, ""


def _read_one(cell: str) -> tuple[str, ...]:
    return () if is_missing(cell) else (nfc(cell.strip()),)


def _divide(cell: str, *, separator: str) -> tuple[str, ...]:
    return tuple(sorted({nfc(part.strip()) for part in cell.split(separator) if not is_missing(part)}))


def _are_lists(cells: Collection[str]) -> bool:
    """Whether all cells are lists, some of which cannot be the name of a class such as "[1]"."""
    filled = [cell for cell in cells if not is_missing(cell)]
    found = [_parse_list(cell) for cell in filled]
    return (
        bool(found)
        and None not in found
        and any(part is not None and (len(part) != 1 or isinstance(part[0], str)) for part in found)
    )


def _read_list(cell: str) -> tuple[str, ...]:
    return tuple(sorted({nfc(str(part).strip()) for part in _parse_list(cell) or ()} - {""}))


def _parse_list(cell: str) -> list[str | int] | None:
    """The labels of a list as Python or JSON writes it; None for anything else."""
    text = cell.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and all(isinstance(part, (str, int)) for part in found):
            return found
    return None

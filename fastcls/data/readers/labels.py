"""The labels in the cells of a column: one each, several joined by a separator, or lists."""

from __future__ import annotations

import ast
import functools
import io
import itertools
import json
import re
import tokenize
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from fastcls.data.names import nfc
from fastcls.data.readers.grid import is_missing
from fastcls.data.readers.layout import Layout
from fastcls.errors import DataError
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

# The labels of a cell; for a missing one of a column with one label each none, which is refused.
ReadLabels = Callable[[str], "tuple[str, ...]"]
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_WRITTEN_OUT = re.compile(r"""[,'"]|\d\s+-?\d""")  # of several values, as no name of a class has


def find_reader(
    table: Path, layout: Layout, cells: Mapping[str, int], separator: str | None
) -> tuple[ReadLabels, Task, str]:
    """How the labels in a column are read, what is asked of an image, and what is not plain about it.

    Args:
        table: The table, for messages.
        layout: Its columns.
        cells: The different cells of the column of labels, each with its first line.
        separator: What the user says; None for one label each, or lists.

    Raises:
        DataError: A column `labels` does not say what separates the labels; or some cells are written like
            lists, but not all can be read as such.
    """
    if separator is not None:
        _refuse_broken(
            table, cells, lambda cell: cell.split(separator), "Remove --label-separator and write lists"
        )
        return functools.partial(_divide, separator=separator), SEVERAL_LABELS, ""
    if _are_lists(cells):
        return _read_list, SEVERAL_LABELS, f"lists in {layout.label!r}"
    _refuse_broken(table, cells, lambda cell: [cell], "Write all cells as lists")
    if layout.label.lower() == "labels" and not layout.is_told:
        raise DataError(
            f"{table} has a column {layout.label!r}. Pass the separator between labels with "
            f"--label-separator or, if each image has one label, --label-column {layout.label}."
        )
    return _read_one, ONE_LABEL, ""


def _refuse_broken(
    table: Path, cells: Mapping[str, int], parts_of: Callable[[str], list[str]], remedy: str
) -> None:
    found = [cell for cell in cells if any(map(_is_written_out, parts_of(cell)))]
    if found:
        # Beside clean lists, the cell that is none is the one to mend.
        cell = min(found, key=lambda each: (_parse_list(each) is not None, cells[each]))
        raise DataError(
            f"{table}, line {cells[cell]}: the label looks like a list, but is not read as one. "
            f"""Received: {cell}. {remedy} such as ["daisy", "rose"], or give each image one name."""
        )


def _is_written_out(cell: str) -> bool:
    """Whether a cell is like a list, tuple, set or array, or a piece of it; "(other)" is a name."""
    text = cell.strip()
    closing = _CLOSING.get(text[:1], "")
    return bool(closing) and (closing not in text[1:].lstrip()[1:] or bool(_WRITTEN_OUT.search(text)))


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
            return found if parse is json.loads or not _joins_strings(text) else None
    return None


def _joins_strings(text: str) -> bool:
    """Whether strings follow each other without a comma, as in an array of NumPy: Python joins them."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    kinds = [kind for kind in kinds if kind != tokenize.NL]
    return any(pair == (tokenize.STRING, tokenize.STRING) for pair in itertools.pairwise(kinds))

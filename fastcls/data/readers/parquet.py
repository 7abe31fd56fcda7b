"""Parquet files as tables: with paths of images, or with the images themselves, as Hugging Face has them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastcls.data.parquet import open_file
from fastcls.data.readers.grid import Grid, IsImage, Rows, as_text
from fastcls.data.tfrecord import join_address
from fastcls.errors import DataError

_BINARY = ("binary", "large_binary")
_FIELDS = ("bytes", "path")  # of an image of Hugging Face
_BATCH = 4096


@contextlib.contextmanager
def open_parquet(path: Path, delimiter: str | None, is_image: IsImage) -> Iterator[Grid]:
    """Open a Parquet file; images in it are not read.

    Raises:
        DataError: It cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        file = open_file(str(path))
        schema = file.schema_arrow
        kinds = {field.name: field.type for field in schema}
        structs = [name for name, kind in kinds.items() if _is_image(kind)]
        binary = [name for name, kind in kinds.items() if str(kind) in _BINARY]
        held = next((name for name in [*structs, *binary] if _holds_bytes(file, name)), "")
        read = {name: f"{name}.path" if name in structs else name for name in kinds if name not in binary}
        classes = _class_labels(schema)
        columns = tuple(dict.fromkeys([*([held] if held else []), *read]))
        rows = _rows(path, file, {n: c for n, c in read.items() if n != held}, held, classes)
        yield Grid(columns, rows, pictures=held, single=frozenset(classes) & {*columns})
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}. Write it again.") from error


def _is_image(kind: Any) -> bool:
    return str(kind).startswith("struct") and {*_FIELDS} <= {field.name for field in kind}


def _holds_bytes(file: Any, name: str) -> bool:
    """Whether a column has bytes at all: paths of images may come without."""
    metadata = file.metadata
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(group.num_columns):
            chunk = group.column(place)
            if chunk.path_in_schema in (name, f"{name}.bytes"):
                statistics = chunk.statistics
                if not statistics or statistics.null_count is None or statistics.null_count < group.num_rows:
                    return True
    return False


def _class_labels(schema: Any) -> Mapping[str, Sequence[str]]:
    """The names of numbered classes, by their columns, as the package `datasets` stores them."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if not stored:
        return {}
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        features = json.loads(stored)["info"]["features"]
        return {
            name: told["names"]
            for name, told in features.items()
            if isinstance(told, dict) and told.get("_type") == "ClassLabel"
        }
    return {}


def _rows(
    path: Path, file: Any, read: Mapping[str, str], held: str, classes: Mapping[str, Sequence[str]]
) -> Rows:
    number = 0
    for batch in file.iter_batches(_BATCH, columns=[*read.values()]):
        found = batch.to_pydict()
        for place in range(batch.num_rows):
            cells = {name: _text(found[name][place], classes.get(name)) for name in read}
            if held:
                cells[held] = join_address(path.name, number, held)
            number += 1
            yield number, cells


def _text(value: Any, names: Sequence[str] | None) -> str:
    if isinstance(value, dict):  # the path of an image
        return as_text(value.get("path"))
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else ""  # -1: without a label
    return as_text(value)

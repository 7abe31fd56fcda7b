"""JSON Lines: an object per line, such as the `metadata.jsonl` of a Hugging Face image folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastcls.data.readers.grid import Grid, IsImage, Rows, as_text
from fastcls.errors import DataError


class _NoObjectError(Exception):
    """A line is not what it should be; the message is a fact without a remedy."""


@contextlib.contextmanager
def open_json_lines(path: Path, delimiter: str | None, is_image: IsImage) -> Iterator[Grid]:
    """Open a file with a JSON object per line; its columns are the keys of the first.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            if file.read(1) == "[" and path.suffix.lower() == ".json":
                raise _is_array(path)
            file.seek(0)
            first = next(_objects(file), (0, {}))[1]
            file.seek(0)
            yield Grid(tuple(first), _rows(file))
    except (OSError, UnicodeDecodeError, _NoObjectError) as error:
        raise DataError(
            f"{path} cannot be read as JSON Lines: {error}. Each line must be an object such as "
            '{"file_name": "a.jpg", "label": "cat"}'
        ) from error


def _is_array(path: Path) -> DataError:
    lines = path.with_suffix(".jsonl").name
    return DataError(
        f"{path} holds one JSON array. Tables are CSV, JSON Lines (an object per line) or Parquet. To write "
        f"it as JSON Lines, in Python: pandas.read_json({path.name!r}).to_json({lines!r}, "
        "orient='records', lines=True)"
    )


def _rows(file: Iterator[str]) -> Rows:
    return ((number, {key: as_text(cell) for key, cell in found.items()}) for number, found in _objects(file))


def _objects(file: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, _parse(line, number)


def _parse(line: str, number: int) -> dict[str, Any]:
    with contextlib.suppress(json.JSONDecodeError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    raise _NoObjectError(f"line {number} is no JSON object")

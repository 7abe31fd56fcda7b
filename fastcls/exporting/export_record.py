"""export.json beside an export: digests of its files and of what it was made of, and figures of its check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

from fastcls import files
from fastcls.errors import OptionError
from fastcls.records import FILLED, Count, Filled, made, one_of
from fastcls.runs import EXPORT_RECORD
from fastcls.specs.exporting import EXPORT_PRECISIONS, FORMATS


class Check(TypedDict):
    """What is read of the figures of a check: see `fastcls.exporting.checks.Checked`."""

    images: Count
    agreeing: Count
    decisions: Count
    max_difference: float
    ms_per_image: float | None


class ExportRecord(TypedDict):
    """What export.json holds, as far as anything reads it."""

    format: Annotated[str, one_of(FORMATS)]
    precision: Annotated[str, one_of(EXPORT_PRECISIONS)]
    digests: dict[str, Filled]
    files: Annotated[dict[str, Filled], FILLED]
    bytes: Count
    check: Check
    image_bytes: dict[str, Any] | None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write export.json into the folder of an export."""
    files.write_checked_json(folder / EXPORT_RECORD, record)


def read_record(folder: Path, remedy: str = "Export again") -> ExportRecord | None:
    """What export.json in a folder says; None where there is none.

    Args:
        folder: The folder.
        remedy: What to do where it is damaged.

    Raises:
        OptionError: It is damaged.
    """
    file = folder / EXPORT_RECORD
    if not file.is_file():
        return None
    try:
        return made(ExportRecord, files.read_checked_json(file))
    except (OSError, ValueError) as error:
        raise OptionError(f"{file} is damaged: {error}. {remedy}") from error

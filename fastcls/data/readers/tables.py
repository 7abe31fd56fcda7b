"""Data sets of one or more tables: a file, Parquet files of parts, or the metadata of image folders."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from fastcls.data.parquet import SUFFIX, is_parquet
from fastcls.data.readers.csv import read_csv, tells_labels
from fastcls.data.readers.entries import Entry, Table, name_splits, some, split_named
from fastcls.data.readers.folder import LeftOut, Reason, list_images, visible_folders, warn_of_left_out
from fastcls.data.readers.given import refuse_other_file
from fastcls.data.readers.parts import warn_of_empty_parts
from fastcls.errors import DataError
from fastcls.specs.data import ReadSpec
from fastcls.storage import is_url
from fastcls.storage.paths import as_place, is_pattern, matching

# What the package `datasets` calls the table of an image folder.
_METADATA = ("metadata.csv", "metadata.jsonl", f"metadata{SUFFIX}")
_DATA = "data"  # where it keeps Parquet files
logger = logging.getLogger(__name__)


def find_tables(path: Path, spec: ReadSpec) -> list[Path]:
    """The tables of a path: itself, those of a folder, or the Parquet files of a pattern; none of others.

    Args:
        path: What the user calls the data set.
        spec: How it is read.

    Raises:
        DataError: It is a file, but no table; or some parts of an image folder have metadata, and others
            class folders.
    """
    if path.is_file():
        if not is_parquet(path.name):
            refuse_other_file(path)
        return [path]
    if path.is_dir():
        inside = visible_folders(path)
        return _metadata(path, inside, spec) or _parquets(path, inside)
    found = matching(str(path)) if is_pattern(str(path)) else []
    return [each for each in found if is_parquet(each.name) and each.is_file()]


def read_tables(tables: Sequence[Path], given: Path, spec: ReadSpec) -> tuple[Table, Path]:
    """Read tables as one.

    Args:
        tables: What `find_tables` found.
        given: The path that it was given.
        spec: How they are read.

    Returns:
        The table, and the folder that its paths are relative to.

    Raises:
        DataError: See `read_csv`; or some have one label per image and others several.
    """
    read = [read_csv(table, spec) for table in tables]
    tasks = {table.task for table in read}
    if len(tasks) > 1:
        raise DataError(f"{given} has tables with one label per image, and others with several. Part them.")
    if spec.path_suffix and not any(table.needs_suffix for table in read):
        raise DataError(
            f"--path-suffix {spec.path_suffix} has no effect: all paths in {given} name files without it. "
            "Remove it."
        )
    root = as_place(spec.image_root) if spec.image_root else _common_folder(tables, given)
    parts = {} if tables == [given] else name_splits({_part(table, root) for table in tables} - {""}, given)
    entries = [
        _moved(entry, "" if spec.image_root else _prefix(place, root), parts.get(_part(place, root), ""))
        for place, table in zip(tables, read, strict=True)
        for entry in table.entries
    ]
    if len(tables) == 1 and tables != [given]:
        entries = _split_by_folder(entries, given)
    if tables != [given] and given.is_dir():
        folders = [name for name in visible_folders(given) if split_named(name)]
        warn_of_empty_parts(given, folders, [entry.path for entry in entries])
    names = tuple(sorted({name for table in read for name in table.class_names}))
    notes = tuple(dict.fromkeys(note for table in read for note in table.notes))
    dropped = [
        _below(named, "" if spec.image_root else _prefix(place, root))
        for place, table in zip(tables, read, strict=True)
        for named in table.dropped
    ]
    return Table(tuple(entries), names, tasks.pop(), notes, tuple(dropped)), root


def count_unlisted(tables: Sequence[Path], given: Path, table: Table) -> int:
    """How many images of an image folder its metadata leaves out; a warning names them."""
    if not given.is_dir() or not all(each.name in _METADATA for each in tables):
        return 0
    listed = {*table.dropped, *(entry.path for entry in table.entries)}
    unlisted = [path for path in list_images(given).images if path not in listed]
    warn_of_left_out(given, (LeftOut(path, Reason.UNLISTED) for path in unlisted))
    return len(unlisted)


def _metadata(root: Path, folders: Sequence[str], spec: ReadSpec) -> list[Path]:
    """The tables of an image folder, or of its parts, if they tell labels."""
    places = [root, *(root / name for name in folders if split_named(name))]
    found = [place / name for place in places for name in _METADATA if (place / name).is_file()]
    silent = [table for table in found if not tells_labels(table, spec)]
    if silent:
        logger.warning("%s has no columns file_name and label: classes are the folders", silent[0])
        return []
    _require_metadata_of_parts(root, places[1:], found)
    return found


def _require_metadata_of_parts(root: Path, parts: Sequence[Path], tables: Sequence[Path]) -> None:
    """Raise DataError where some parts have metadata, and others class folders."""
    having = {table.parent for table in tables}
    lacking = [part.name for part in parts if part not in having and visible_folders(part)]
    if lacking and having and root not in having:
        read = some([table.relative_to(root).as_posix() for table in tables])
        raise DataError(
            f"{root}: {some(lacking)} {'has' if len(lacking) == 1 else 'have'} class folders "
            f"without metadata, but the labels are read from {read}. Write metadata for all parts, or "
            "remove it from all."
        )


def _parquets(root: Path, folders: Sequence[str]) -> list[Path]:
    """Parquet files in a folder, in its folder `data`, or in those of parts."""
    if not all(name == _DATA or split_named(name) for name in folders):
        return []
    places = [root, *(root / name for name in folders)]
    return sorted(entry for place in places for entry in place.iterdir() if is_parquet(entry.name))


def _common_folder(tables: Sequence[Path], given: Path) -> Path:
    if given.is_dir():
        return given
    return given.parent if tables == [given] else as_place(os.path.commonpath([t.parent for t in tables]))


def _prefix(table: Path, root: Path) -> str:
    way = table.parent.relative_to(root).as_posix()
    return "" if way == "." else f"{way}/"


def _part(table: Path, root: Path) -> str:
    """What names the part of a table: a word of its name, or else its folder."""
    words = [*re.split(r"[-_.]", table.stem), *([table.parent.name] if table.parent != root else [])]
    return next((word for word in words if split_named(word)), "")


def _moved(entry: Entry, prefix: str, split: str) -> Entry:
    if not prefix and not split:
        return entry
    return entry._replace(path=_below(entry.path, prefix), split=entry.split or split)


def _below(path: str, prefix: str) -> str:
    return path if path.startswith("/") or is_url(path) else prefix + path


def _split_by_folder(entries: list[Entry], given: Path) -> list[Entry]:
    """The metadata of an image folder may lie above the folders of its parts."""
    tops = [entry.path.partition("/")[0] for entry in entries]
    if any(entry.split for entry in entries) or not all(map(split_named, tops)):
        return entries
    splits = name_splits(set(tops), given)
    return [entry._replace(split=splits[top]) for entry, top in zip(entries, tops, strict=True)]

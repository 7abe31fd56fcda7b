"""Images in class folders: a folder per class, parts (train, val, test) of such, or what split-data made."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fastcls.data.names import nfc
from fastcls.data.readers.entries import SPLITS, Entry, some
from fastcls.data.readers.folder import (
    FolderContent,
    LeftOut,
    Reason,
    image_suffixes,
    list_images,
    visible_folders,
    warn_of_left_out,
)
from fastcls.data.readers.given import refuse_other_folder, refuse_saved
from fastcls.data.readers.parts import find_parts, warn_of_empty_parts
from fastcls.data.split_table import (
    SPLIT_PLAN,
    SPLIT_TABLE,
    has_split_rows,
    missing_rows,
    read_split_rows,
    require_named,
)
from fastcls.errors import DataError, GoneError
from fastcls.wording import count_of

logger = logging.getLogger(__name__)


def read_folder(
    root: Path, *, folders_are_classes: bool = False, may_be_empty: bool = False
) -> tuple[list[Entry], int]:
    """List the images of a folder of classes, or of parts.

    Args:
        root: The folder.
        folders_are_classes: Do not take folders that are named like parts (train, val, test) as such.
        may_be_empty: Class folders may hold no image, as long as one holds some.

    Returns:
        The images, and how many other entries are left out, with a warning.

    Raises:
        DataError: The folder is missing, cannot be listed, or was left unfinished by split-data; its folders
            are named like parts, but are no set of parts; a class has no image; a name is not UTF-8;
            split-data made it, and it holds images that the table does not name, or the table is damaged.
    """
    _require_finished_folder(root)
    refuse_saved(root)
    content = list_images(root)
    has_table = has_split_rows(root / SPLIT_TABLE)
    folders = visible_folders(root)
    splits = {} if has_table else find_parts(root, folders, folders_are_classes=folders_are_classes)
    entries = _table_entries(root, content) if has_table else _entries(root, content, splits)
    left_out = [*content.left_out, *(LeftOut(path, Reason.LOOSE) for path in _loose(content, entries))]
    if has_table or splits:
        left_out = [each for each in left_out if each.path != SPLIT_TABLE]
        parts = [name for name in folders if name in (splits or SPLITS)]
        folders = [name for part in parts for name in visible_folders(root / part)]
    refuse_other_folder(root, folders, content)
    warn_of_left_out(root, left_out)
    if splits:
        warn_of_empty_parts(root, splits, (entry.path for entry in entries))
    if not (may_be_empty and entries):
        _require_images(root, folders, entries)
    return entries, len(left_out)


def _loose(content: FolderContent, entries: list[Entry]) -> list[str]:
    """The images of a folder that are no entries."""
    if len(entries) == len(content.images):
        return []
    taken = {entry.path for entry in entries}
    return [path for path in content.images if path not in taken]


def _table_entries(root: Path, content: FolderContent) -> list[Entry]:
    """The images of a split folder: those that its table names and that are there."""
    rows = read_split_rows(root / SPLIT_TABLE)
    require_named(root, rows, content.images)
    missing = missing_rows(rows, content.present)
    if missing:
        logger.warning(
            "%s: images listed in %s that no longer exist are left out (%d): %s. split-data restores what "
            "its source still has",
            root,
            SPLIT_TABLE,
            len(missing),
            some([row.path for row in missing]),
        )
    readable = {*content.images}
    return [Entry(r.path, (r.class_name,), r.split, r.group) for r in rows if r.path in readable]


def _entries(root: Path, content: FolderContent, splits: Mapping[str, str]) -> list[Entry]:
    """The images of a folder of classes, or of splits: those in a class folder."""
    _require_utf8(content.images)
    made = (_split_entry(path, splits) if splits else _class_entry(path) for path in content.images)
    return [entry for entry in made if entry]


def _class_entry(path: str) -> Entry | None:
    class_name, _, inner = path.partition("/")
    return Entry(path, _alone(class_name)) if inner else None


def _split_entry(path: str, splits: Mapping[str, str]) -> Entry | None:
    split, _, rest = path.partition("/")
    class_name, _, inner = rest.partition("/")
    return Entry(path, _alone(class_name), splits[split]) if inner else None


@functools.lru_cache
def _alone(class_name: str) -> tuple[str]:
    """A tuple that the images of a class share."""
    return (class_name,)


def _require_finished_folder(root: Path) -> None:
    if not root.is_dir():
        fact = "is not a folder" if root.exists() else "does not exist"
        raise GoneError(
            f"{root} {fact}. Pass a folder with one subfolder of images per class, a table (CSV, JSON Lines, "
            "Parquet), or TFRecord files."
        )
    if (root / SPLIT_PLAN).exists():
        raise DataError(
            f"{root} is incomplete: split-data was interrupted or is still running. "
            "Run the same split-data again."
        )


def _require_utf8(paths: Iterable[str]) -> None:
    bad = [os.fsencode(path) for path in paths if not (path.isascii() or _is_utf8(path))]
    if bad:
        raise DataError(f"{count_of(len(bad), 'file name')} not in UTF-8: {some(bad)}. Rename the files.")


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_images(root: Path, folders: Iterable[str], entries: Iterable[Entry]) -> None:
    empty = sorted(
        set(map(nfc, folders)) - set(map(nfc, {name for entry in entries for name in entry.class_names}))
    )
    if empty:
        raise DataError(
            f"{root} has class folders without images (empty class): {some(empty)}. Add images or remove "
            f"them. Image suffixes: {' '.join(image_suffixes())}"
        )

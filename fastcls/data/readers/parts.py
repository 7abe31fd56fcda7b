"""Whether the folders of a data set are its parts (train, val, test), or its classes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastcls.data.readers.entries import SPLITS, name_splits, some, split_named
from fastcls.data.readers.folder import visible_folders
from fastcls.data.readers.given import name_label_tables
from fastcls.errors import DataError

logger = logging.getLogger(__name__)


def find_parts(root: Path, folders: Sequence[str], *, folders_are_classes: bool = False) -> dict[str, str]:
    """The split of each folder; empty where the folders are classes.

    A folder is a part if it is named like one and has folders in it. A single "train" between other names
    is a class, perhaps of vehicles; a warning says so.

    Args:
        root: The folder of a data set.
        folders: Names of the visible folders in it.
        folders_are_classes: The user says so.

    Raises:
        DataError: The names look like those of parts, but are no set of parts.
    """
    named = [name for name in folders if split_named(name)]
    if folders_are_classes or not named:
        return {}
    others = [name for name in folders if name not in named]
    inside = {name: visible_folders(root / name) for name in named}
    why = _why_no_parts(named, others, inside)
    if not why:
        return name_splits(named, root)
    if len(named) == 1 and others and not set(inside[named[0]]) & set(others):
        logger.warning("%s: %r is taken as a class, as no other folder is a part", root, named[0])
        return {}
    raise DataError(
        f"{root}: its folders {some(named)} are named like parts of a data set, but {why}. Expected: "
        f"{', '.join(SPLITS)} (or training, dev, ...) with a folder per class in each. If they are classes, "
        f"add --folders-are-classes{name_label_tables(root) or '; if a table has the labels, give it'}."
    )


def warn_of_empty_parts(root: Path, parts: Iterable[str], paths: Iterable[str]) -> None:
    """Name the folders of parts that no image is taken from.

    Args:
        root: The folder of a data set.
        parts: Names of the folders.
        paths: Of the images, relative to `root`.
    """
    tops = {path.partition("/")[0] for path in paths}
    empty = [name for name in parts if name not in tops]
    if empty:
        logger.warning(
            "%s: no image is taken from %s: the data set is read as if %s were not there",
            root,
            some([f"{name}/" for name in empty]),
            "it" if len(empty) == 1 else "they",
        )


def _why_no_parts(named: Sequence[str], others: Sequence[str], inside: dict[str, list[str]]) -> str:
    if others:
        return f"{some(others)} {'is' if len(others) == 1 else 'are'} not"
    trains = [name for name in named if split_named(name) == "train"]
    flat = [name for name in trains or named if not inside[name]]  # a test part may have no labels
    return f"{some(flat)} {'has' if len(flat) == 1 else 'have'} no class folders" if flat else ""

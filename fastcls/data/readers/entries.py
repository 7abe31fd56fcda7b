"""What every reader of a data set gives: entries that know their classes by name."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastcls.tasks import Task

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "holdout"), "test"),
}
_EVAL = "eval"  # validates where something else is the test part
_SHOWN = 5
logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A sample that knows its classes by name; `class_names` is sorted."""

    path: str
    class_names: tuple[str, ...]
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Table:
    """What a table or TFRecord files say.

    Attributes:
        entries: One per image.
        class_names: Sorted, those of columns without any 1 included.
        task: What is asked of an image.
        notes: How it was read, where that had to be found out.
        dropped: Paths of images that it lists, but that are left out.
        needs_suffix: Whether the suffix that the user names is appended to any path.
    """

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    task: Task
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    needs_suffix: bool = False


def some(names: Sequence[str] | Sequence[bytes]) -> str:
    """The first few names, as text for an error message."""
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def split_named(name: str) -> str:
    """The split that a name stands for, in any case; "" if it stands for none.

    >>> [split_named(name) for name in ("Training", "dev", "roses")]
    ['train', 'val', '']
    """
    return SPLIT_NAMES.get(name.strip().casefold(), "")


def name_splits(names: Iterable[str], source: object) -> dict[str, str]:
    """The split that each name of a part of one data set stands for; a warning says what is not plain.

    Args:
        names: The names, as `split_named` knows them.
        source: Where they stand, for the warning.
    """
    found = {name: split_named(name) for name in sorted(names)}
    evals = [name for name in found if name.strip().casefold() == _EVAL]
    others = {split for name, split in found.items() if name not in evals}
    if evals and "test" in others and "val" not in others:
        logger.warning("%s: 'eval' is its validation part, as it has a test part besides", source)
        found |= dict.fromkeys(evals, "val")
    for split in SPLITS:
        same = sorted(name for name, meant in found.items() if meant == split)
        if len(same) > 1:
            logger.warning("%s: %s are one part, %s", source, " and ".join(map(repr, same)), split)
    return found

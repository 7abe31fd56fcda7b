"""What every reader of a data set gives: entries that know their classes by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fastcls.tasks import Task

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_SHOWN = 5


class Entry(NamedTuple):
    """A sample that knows its classes by name; `class_names` is sorted."""

    path: str
    class_names: tuple[str, ...]
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Table:
    """What a CSV or TFRecord files say.

    Attributes:
        entries: One per image.
        class_names: Sorted, those of columns without any 1 included.
        task: What is asked of an image.
    """

    entries: tuple[Entry, ...]
    class_names: tuple[str, ...]
    task: Task


def some(names: Sequence[str] | Sequence[bytes]) -> str:
    """The first few names, as text for an error message."""
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")

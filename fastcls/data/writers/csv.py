"""Write a data set as one CSV, which all commands take in its place; the images stay where they are."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fastcls import files
from fastcls.data.csv_table import write_table
from fastcls.data.dataset import Dataset, Sample
from fastcls.data.readers.csv import RESERVED, name_clash
from fastcls.errors import DataError
from fastcls.storage.paths import UrlPath
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task

# The columns of a table, and its lines.
_Contents = tuple[Sequence[str], Iterable[Sequence[object]]]
_COLUMNS = ("path", "label", "split", "group")


def write_csv(dataset: Dataset, path: Path) -> None:
    """Write path, label, split and group of each image; in place of `label` a column of 0 and 1 per class if
    images have any number of labels.

    Args:
        dataset: The images.
        path: The file to make; one with the same content stays. Paths in it are relative to its folder.

    Raises:
        OptionError: The file exists, with other content.
        DataError: A class has the name of another column.
    """
    require_column_names(dataset)
    files.require_writable(path.parent)
    with files.new_path(path) as temporary:
        write_samples(temporary, move_root(dataset, path.parent))


def write_samples(path: Path, dataset: Dataset, digests: Sequence[str] | None = None) -> None:
    """Write the samples of a data set as they are.

    Args:
        path: The file to make.
        dataset: The images.
        digests: Of each image, for one more column of a multi-label table.
    """
    write_table(path, *_TABLES[dataset.task](dataset, digests))


def _label_table(dataset: Dataset, digests: Sequence[str] | None) -> _Contents:
    names = dataset.class_names
    return _COLUMNS, ((s.path, names[s.label], s.split, s.group) for s in dataset.samples)


def _class_table(dataset: Dataset, digests: Sequence[str] | None) -> _Contents:
    names = dataset.class_names
    keys: Iterable[tuple[str, ...]] = itertools.repeat(()) if digests is None else zip(digests, strict=True)
    columns = [name for name in RESERVED if name != "digest" or digests is not None]
    rows = (
        (s.path, s.split, s.group, *key, *(int(label in s.labels) for label in range(len(names))))
        for s, key in zip(dataset.samples, keys, strict=False)
    )
    return (*columns, *names), rows


_TABLES: dict[Task, Callable[[Dataset, Sequence[str] | None], _Contents]] = {
    ONE_LABEL: _label_table,
    SEVERAL_LABELS: _class_table,
}


def require_column_names(dataset: Dataset) -> None:
    """Raise DataError for a class that cannot have a column of its name."""
    clash = "" if dataset.task.has_class_folder else name_clash(dataset.class_names)
    if clash:
        raise DataError(
            f"No class can be called {clash!r}: the table has a column of that name besides those of the "
            "classes. Rename the class."
        )


def move_root(dataset: Dataset, folder: Path) -> Dataset:
    """The same images in the same order, with paths relative to another folder."""
    # The folders are resolved, as ".." after a symbolic link leads elsewhere; the image keeps its name.
    # Each folder is resolved once: that asks the file system for every folder above.
    origin = folder.resolve()

    @functools.cache
    def way_to(parent: Path) -> Path:
        return Path(os.path.relpath(parent.resolve(), origin))

    def moved(sample: Sample) -> Sample:
        image = dataset.locate(sample)
        if isinstance(image, UrlPath):
            return replace(sample, path=str(image))
        return replace(sample, path=(way_to(image.parent) / image.name).as_posix())

    return replace(dataset, root=folder, samples=tuple(map(moved, dataset.samples)), source=None)

"""Write a data set as one CSV, which all commands take in its place; the images stay where they are."""

from __future__ import annotations

import csv
import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fastcls import files
from fastcls.data.csv_reader import name_clash
from fastcls.data.dataset import Dataset, Sample
from fastcls.errors import DataError
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, Task


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
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(_ROWS[dataset.task](dataset, path.parent))
    with files.new_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="")


def require_column_names(class_names: Sequence[str]) -> None:
    """Raise DataError for a class that cannot have a column of its name."""
    clash = name_clash(class_names)
    if clash:
        raise DataError(
            f"No class can be called {clash!r}: the table has a column per class besides its own of that "
            "name. Rename the class."
        )


def _label_rows(dataset: Dataset, folder: Path) -> Iterator[tuple[str | int, ...]]:
    place = relative_to(folder)
    yield "path", "label", "split", "group"
    for sample in dataset.samples:
        label = dataset.class_names[sample.label]
        yield place(dataset.locate(sample)), label, sample.split, sample.group


def _class_rows(dataset: Dataset, folder: Path) -> Iterator[tuple[str | int, ...]]:
    require_column_names(dataset.class_names)
    count, place = len(dataset.class_names), relative_to(folder)
    yield "path", "split", "group", *dataset.class_names
    for sample in dataset.samples:
        bits = class_bits(sample, count)
        yield place(dataset.locate(sample)), sample.split, sample.group, *bits


_ROWS: dict[Task, Callable[[Dataset, Path], Iterator[tuple[str | int, ...]]]] = {
    ONE_LABEL: _label_rows,
    SEVERAL_LABELS: _class_rows,
}


def class_bits(sample: Sample, count: int) -> list[int]:
    """Whether a sample has each of `count` classes, as 0 and 1."""
    return [int(label in sample.labels) for label in range(count)]


def relative_to(folder: Path) -> Callable[[Path], str]:
    """A function that gives the POSIX path of an image relative to a folder."""
    # The folders are resolved, as ".." leads elsewhere from behind a symbolic link; the image keeps its name.
    # Each of them once: that asks the file system for every folder above.
    origin = folder.resolve()

    @functools.cache
    def way_to(parent: Path) -> Path:
        return Path(os.path.relpath(parent.resolve(), origin))

    return lambda image: (way_to(image.parent) / image.name).as_posix()

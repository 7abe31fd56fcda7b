"""Write a data set as one CSV, which all commands take in its place; the images stay where they are."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from fastcls import files
from fastcls.data.csv_reader import RESERVED
from fastcls.data.dataset import Dataset
from fastcls.errors import OptionError

_COLUMNS = ("path", "label", "split", "group")


def write_csv(dataset: Dataset, path: Path) -> None:
    """Write path, label, split and group of each image; in place of `label` a column of 0 and 1 per class if
    images have any number of labels.

    Args:
        dataset: The images.
        path: The file to make. Paths in it are relative to its folder.

    Raises:
        OptionError: The file exists, or a class has the name of another column.
    """
    if path.exists():
        raise OptionError(f"{path} exists already. Choose another --out, or remove it first")
    clash = sorted({"label", "labels", *RESERVED} & {name.lower() for name in dataset.class_names})
    if dataset.multi_label and clash:
        raise OptionError(f"No class can be called {clash[0]!r}: the table has a column of that name")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(_rows(dataset, path.parent))
    files.write_text(path, text.getvalue())


def _rows(dataset: Dataset, folder: Path) -> Iterator[tuple[str | int, ...]]:
    labels = range(len(dataset.class_names))
    yield ("path", "split", "group", *dataset.class_names) if dataset.multi_label else _COLUMNS
    for sample in dataset.samples:
        image = path_from(folder, dataset.locate(sample))
        if dataset.multi_label:
            yield image, sample.split, sample.group, *(int(label in sample.labels) for label in labels)
        else:
            yield image, dataset.class_names[sample.label], sample.split, sample.group


def path_from(folder: Path, image: Path) -> str:
    """POSIX path of an image relative to a folder."""
    # The folders are resolved, as ".." leads elsewhere from behind a symbolic link; the image keeps its name.
    return Path(os.path.relpath(image.parent.resolve() / image.name, folder.resolve())).as_posix()

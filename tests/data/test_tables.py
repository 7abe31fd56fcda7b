"""The same photos, told in the layouts of many tools, are the same data set."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path

import pytest

from fastcls.data.dataset import Dataset

CLASSES = ("daisy", "café")
SPLITS = ("train", "train", "val", "test")
PHOTOS = [(f"{name}/{n}.jpg", name, split) for name in CLASSES for n, split in enumerate(SPLITS)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, _, _ in PHOTOS:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    return tmp_path


def text(columns, cells, delimiter=",", index=False):
    """A table of all photos, each row made of path, class and split."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    if columns:
        writer.writerow(["", *columns] if index else columns)
    writer.writerows([n, *cells(*photo)] if index else cells(*photo) for n, photo in enumerate(PHOTOS))
    return out.getvalue()


def both(path, name, split):
    return path, name


def stem(path, name, split):
    return path.removesuffix(".jpg"), name


def lines(*keys):
    def make(path, name, split):
        return json.dumps(dict(zip(keys, (path, name, split), strict=False)))

    return "\n".join(make(*photo) for photo in PHOTOS)


# Text of the table, its suffix and encoding, options, and what is said of it.
LAYOUTS = {
    "plain": (text(["path", "label"], both), ".csv", "utf-8", {}, ""),
    "Keras": (
        text(["filename", "class"], both),
        ".csv",
        "utf-8",
        {},
        "paths in 'filename'; labels in 'class'",
    ),
    "Hugging Face": (text(["file_name", "label"], both), ".csv", "utf-8", {}, "paths in 'file_name'"),
    "JSON Lines": (lines("file_name", "label"), ".jsonl", "utf-8", {}, "paths in 'file_name'"),
    "Kaggle": (
        *(text(["id_code", "diagnosis"], stem), ".csv", "utf-8", {}),
        "paths in 'id_code'; labels in 'diagnosis'; .jpg appended to paths",
    ),
    "a suffix that is told": (
        *(text(["image_id", "label"], stem), ".csv", "utf-8", {"path_suffix": ".jpg"}),
        "paths in 'image_id'",
    ),
    "semicolons": (text(["path", "label"], both, ";"), ".csv", "utf-8", {}, "cells separated by ';'"),
    "tabs": (text(["path", "label"], both, "\t"), ".tsv", "utf-8", {}, "cells separated by tabs"),
    "a delimiter that is told": (text(["path", "label"], both, "!"), ".csv", "utf-8", {"delimiter": "!"}, ""),
    "a byte order mark": (text(["path", "label"], both), ".csv", "utf-8-sig", {}, ""),
    "UTF-16": (text(["path", "label"], both, "\t"), ".csv", "utf-16", {}, "UTF-16; cells separated by tabs"),
    "Latin-1": (text(["path", "label"], both), ".csv", "latin-1", {}, ""),
    "pandas index": (text(["path", "label"], both, index=True), ".csv", "utf-8", {}, ""),
    "no header": (
        *(text([], both), ".csv", "utf-8", {}),
        "no first line of names: columns are numbered; paths in '1'; labels in '2'",
    ),
    "no header, turned": (
        *(text([], lambda path, name, split: (name, path)), ".csv", "utf-8", {}),
        "no first line of names: columns are numbered; paths in '2'; labels in '1'",
    ),
    "a list of paths and labels": (
        *("".join(f"{path} {name}\n" for path, name, _ in PHOTOS), ".txt", "utf-8", {}),
        "cells separated by spaces; no first line of names: columns are numbered; "
        "paths in '1'; labels in '2'",
    ),
    "Windows": (
        *(text(["path", "label"], lambda path, name, split: (f".\\{path}".replace("/", "\\"), name)), ".csv"),
        *("utf-8", {}, ""),
    ),
    "spelled by macOS": (
        text(["path", "label"], lambda path, name, split: (path, unicodedata.normalize("NFD", name))),
        *(".csv", "utf-8", {}, ""),
    ),
    "other columns, named": (
        text(["n", "bild", "w", "art"], lambda path, name, split: (1, path, 2, name)),
        *(".csv", "utf-8", {"path_column": "bild", "label_column": "art"}, ""),
    ),
    "other columns, numbered": (
        text(["n", "bild", "w", "art"], lambda path, name, split: (1, path, 2, name)),
        *(".csv", "utf-8", {"path_column": "2", "label_column": "4"}, ""),
    ),
    "paths known by the files": (
        text(["n", "bild", "class"], lambda path, name, split: (1, path, name)),
        *(".csv", "utf-8", {}, "paths in 'bild'; labels in 'class'"),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_open__the_same_photos_in_any_layout(root, layout):
    content, suffix, encoding, options, said = LAYOUTS[layout]
    expected = Dataset.open(root)
    table = root / f"table{suffix}"
    table.write_bytes(content.encode(encoding))
    dataset = Dataset.open(table, **options)
    assert dataset == expected
    assert dataset.reading == (f"{table}: {said}" if said else "")

"""Folders that hold something else than was meant: what is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fastcls.data.dataset import Dataset
from fastcls.data.writers.split import write_split
from fastcls.errors import DataError


def make(root: Path, *folders: str) -> Path:
    for folder in folders:
        for number in range(3):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"{number}.jpg").write_bytes(f"{folder} {number}".encode())
    return root


def parts(*names: str) -> list[str]:
    return [f"{name}/{label}" for name in names for label in ("cat", "dog")]


@pytest.mark.parametrize("inside", [None, "cat", "notes.txt"])
@pytest.mark.parametrize("name", ["val", "Testing"])
def test_open__an_empty_part_is_said(tmp_path, caplog, name, inside):
    root = make(tmp_path, *parts("train"))
    (root / name).mkdir()
    if inside:
        (root / name / inside).touch() if "." in inside else (root / name / inside).mkdir()
    assert Dataset.open(root).splits == ("train",)
    said = f"no image is taken from '{name}/': the data set is read as if it were not there"
    assert f"{root}: {said}" in caplog.text


def test_open__empty_parts_beside_metadata_are_said(tmp_path, caplog):
    root = make(tmp_path, "train")
    for name in ("val", "test"):
        (root / name).mkdir()
    (root / "train/metadata.csv").write_text("file_name,label\n0.jpg,cat\n1.jpg,dog\n2.jpg,dog\n")
    assert Dataset.open(root).splits == ("train",)
    assert "no image is taken from 'test/', 'val/': the data set is read as if they were" in caplog.text


def test_open__parts_with_images_are_not_said_to_be_empty(tmp_path, caplog):
    Dataset.open(make(tmp_path / "1", *parts("train", "val")))
    write_split(Dataset.open(make(tmp_path / "2", "cat", "dog")), tmp_path / "3", allow_small=True)
    Dataset.open(tmp_path / "3")
    assert "no image is taken" not in caplog.text


@pytest.mark.parametrize(
    ("folders", "table", "rows"),
    [
        (["images"], "labels.csv", "path,label\n0.jpg,cat\n1.jpg,dog\n"),
        (["."], "labels.csv", "filename;class;w\n0.jpg;cat;1\n1.jpg;dog;1\n"),
        (["train_images"], "train.csv", "id_code,diagnosis\n0,1\n1,2\n"),
        (["images"], "labels.jsonl", '{"image": "0.jpg", "label": "cat"}\n'),
        (["train", "test"], "train.csv", "id,breed\n0,cat\n1,dog\n"),
    ],
)
def test_open__a_table_beside_its_images_is_named(tmp_path, folders, table, rows):
    root = make(tmp_path / "in", *folders)
    (root / table).write_text(rows)
    (root / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(
        DataError, match=f"'{table}' in it may have the labels.*give the table, {root / table}"
    ):
        Dataset.open(root)


def test_open__a_table_beside_class_folders_is_said_not_to_be_read(tmp_path, caplog):
    root = make(tmp_path, "images", "masks")
    (root / "classes.csv").write_text("number,name,color\n1,cat,red\n")
    assert Dataset.open(root).class_names == ("images", "masks") and "may have the labels" not in caplog.text
    (root / "labels.csv").write_text("path,label\nimages/0.jpg,cat\n")
    Dataset.open(root)
    assert f"{root}: classes are its folders, but 'labels.csv' in it may have the labels" in caplog.text


@pytest.mark.parametrize("name", ["none", "none/deeper"])
def test_open__what_does_not_exist(tmp_path, name):
    with pytest.raises(DataError, match=r"does not exist.*a table \(CSV, JSON Lines, Parquet\), or TFRecord"):
        Dataset.open(tmp_path / name)


def test_subset__takes_the_name_of_a_part(tmp_path):
    np = pytest.importorskip("numpy")
    dataset = Dataset.open(make(tmp_path, *parts("train", "val")))
    for split in (np.array(["train", "val"]), ["train"], None, 1, "all"):
        with pytest.raises(DataError, match=r"Unknown split\. Received: .*Choose one of: train, val, test"):
            dataset.subset(split)
    shutil.rmtree(tmp_path / "val")
    assert len(dataset.subset("train").samples) == 6

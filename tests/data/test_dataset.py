"""What a folder or a CSV is read as, and the message for each bad one."""

import os
from pathlib import Path

import pytest

from fastcls.data.dataset import Dataset
from fastcls.data.split_table import SPLIT_PLAN
from fastcls.errors import DataError


def make(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())
    return root


def write_csv(folder: Path, text: str) -> Path:
    table = make(folder, "a.jpg", "b.jpg") / "table.csv"
    table.write_text(text, encoding="utf-8")
    return table


def test_from_folder__takes_images_of_class_folders_and_counts_the_rest(tmp_path):
    images = ["rose/1.jpg", "rose/deep/er/2.JPeG", "tulip/x.TIF", "tulip/y.webp", "tulip/z.gif"]
    others = [".hidden.jpg", "stray.png", "rose/.x.jpg", "rose/.git/1.jpg", "tulip/notes.txt", "tulip/none"]
    dataset = Dataset.from_folder(make(tmp_path, *images, *others))
    assert [sample.path for sample in dataset.samples] == images
    assert [dataset.class_names[sample.label] for sample in dataset.samples] == ["rose"] * 2 + ["tulip"] * 3
    assert dataset.left_out == len(others)
    assert dataset.splits == ()
    assert dataset.counts() == {"rose": {"": 2}, "tulip": {"": 3}}
    assert dataset.locate(dataset.samples[0]).read_bytes() == b"rose/1.jpg"


def test_from_folder__follows_links_and_ends_in_loops(tmp_path):
    make(tmp_path, "data/a/1.jpg", "data/b/1.jpg", "elsewhere/deep/1.jpg")
    (tmp_path / "data/c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/b/self").symlink_to("self")
    dataset = Dataset.from_folder(tmp_path / "data")
    assert [sample.path for sample in dataset.samples] == ["a/1.jpg", "b/1.jpg", "c/deep/1.jpg"]


def test_from_folder__reads_splits_and_joins_their_classes(tmp_path):
    make(tmp_path, "train/b/1.jpg", "train/a/1.jpg", "val/a/2.jpg", "test/c/3.jpg", "split.csv", "test/4.jpg")
    dataset = Dataset.from_folder(tmp_path)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.splits == ("train", "val", "test")
    assert dataset.counts()["a"] == {"train": 1, "val": 1, "test": 0}
    assert [sample.path for sample in dataset.subset("train").samples] == ["train/a/1.jpg", "train/b/1.jpg"]
    assert dataset.left_out == 1


@pytest.mark.parametrize("names", [("train", "test"), ("train", "bus"), ("val", "test")])
def test_from_folder__classes_may_be_named_like_splits(tmp_path, names):
    root = make(tmp_path, *(f"{name}/1.jpg" for name in names))
    dataset = Dataset.open(root, folders_are_classes=True)
    assert dataset.class_names == tuple(sorted(names))
    assert dataset.splits == ()


@pytest.mark.parametrize("name", ["with space", "naïve 漢字", "new\nline", 'quo"te, comma', "back\\slash"])
def test_from_folder_and_csv__agree_on_odd_names(tmp_path, name):
    dataset = Dataset.from_folder(make(tmp_path, f"{name}/{name}.jpg", "plain/1.jpg"))
    quoted = name.replace('"', '""')
    table = tmp_path / "table.csv"
    table.write_text(
        f'path,label\n"{quoted}/{quoted}.jpg","{quoted}"\nplain/1.jpg,plain\n', encoding="utf-8-sig"
    )
    assert Dataset.open(table) == dataset


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "has no class"),
        (["stray.jpg"], "has no class"),
        (["a/1.jpg"], "has only one class, 'a'"),
        (["a/1.jpg", "b/1.jpg", "c/note.txt"], r"empty class\): 'c'"),
        (["train/a/1.jpg", "val/a/1.jpg", "val/b/note.txt"], r"empty class\): 'b'"),
        (["a/1.jpg", "b/1.jpg", SPLIT_PLAN], "split-data was interrupted"),
        (["a/1.jpg", os.fsdecode(b"b/\xff.jpg")], "not in UTF-8"),
    ],
)
def test_from_folder__bad_folder(tmp_path, paths, message):
    for path in paths:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with pytest.raises(DataError, match=message):
        Dataset.from_folder(tmp_path)


def test_open__missing(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        Dataset.open(tmp_path / "nothing")
    with pytest.raises(DataError, match="is not a folder"):
        Dataset.from_folder(make(tmp_path, "file") / "file")


def test_from_csv__reads_optional_columns_and_absolute_paths(tmp_path):
    outside = make(tmp_path / "outside", "c.jpg") / "c.jpg"
    table = write_csv(
        tmp_path / "in",
        "group,label, split,path,comment\n"
        "g1,x,train,./b.jpg,\n"
        ",y,validation,a.jpg,hello\n"
        f"g1, x ,valid,{outside},\n"
        ",y,validation,a.jpg,again\n",
    )
    dataset = Dataset.open(table)
    rows = [(s.path, s.label, s.split, s.group) for s in dataset.samples]
    assert rows == [(str(outside), 0, "val", "g1"), ("a.jpg", 1, "val", ""), ("b.jpg", 0, "train", "g1")]
    assert dataset.locate(dataset.samples[0]) == outside


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path and no column label. Received: an empty line"),
        ("path;label\na.jpg;x\n", "has only one class, 'x'"),
        ("path,label\na.jpg,x\nb.jpg,\n", "line 3: the label is empty"),
        ("path,label\na.jpg,x\nb.jpg\n", "line 3: the label is empty"),
        ("path,label\na.jpg,x\n,y\n", "line 3: the path is empty"),
        ("path,label\na.jpg,x\n./a.jpg,y\n", "line 3: 'a.jpg' is listed twice"),
        ("path,label,split\na.jpg,x,train\na.jpg,x,val\n", "line 3: 'a.jpg' is listed twice"),
        ("path,label,split\na.jpg,x,fold1\n", "line 2: unknown split 'fold1'"),
        (
            "path,label\na.jpg,x\nno.jpg,y\n" + "n" * 300 + ".jpg,y\n",
            r"lists files that do not exist.*\(2\): 'no.jpg'",
        ),
        ("path,label\na.jpg,x\nb.jpg,x\n", "has only one class, 'x'"),
        ('path,label\na.jpg,"x\n', "cannot be read as CSV"),
    ],
)
def test_from_csv__bad_table(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        Dataset.from_csv(write_csv(tmp_path, text))


def test_subset__unknown_split(tmp_path):
    with pytest.raises(DataError, match="Unknown split"):
        Dataset.from_folder(make(tmp_path, "a/1.jpg", "b/1.jpg")).subset("valid")

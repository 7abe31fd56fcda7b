"""Folders named like parts of a data set: which are parts, which are classes, and which are neither."""

import itertools
from pathlib import Path

import pytest

from fastcls.data.dataset import Dataset
from fastcls.data.readers.entries import SPLIT_NAMES
from fastcls.errors import DataError


def make(root: Path, *folders: str) -> Path:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / "1.jpg").write_bytes(folder.encode())
    return root


def parts(names: tuple[str, ...]) -> list[str]:
    return [f"{name}/{label}" for name in names for label in ("cat", "dog")]


@pytest.mark.parametrize("spell", [str.lower, str.capitalize, str.upper])
def test_parts_in_any_usual_spelling(tmp_path, spell):
    by_split = {
        split: [n for n in SPLIT_NAMES if SPLIT_NAMES[n] == split] for split in ("train", "val", "test")
    }
    for number, names in enumerate(itertools.product(*by_split.values())):
        root = make(tmp_path / str(number), *parts(tuple(map(spell, names))))
        assert Dataset.open(root).counts() == {
            name: {"train": 1, "val": 1, "test": 1} for name in ("cat", "dog")
        }


def test_eval_is_the_validation_part_beside_a_test_part(tmp_path, caplog):
    assert Dataset.open(make(tmp_path / "1", *parts(("train", "eval")))).splits == ("train", "test")
    assert not caplog.text
    assert Dataset.open(make(tmp_path / "2", *parts(("train", "Eval", "test")))).splits == (
        *("train", "val", "test"),
    )
    assert "'eval' is its validation part" in caplog.text


def test_two_names_of_one_part_are_said(tmp_path, caplog):
    dataset = Dataset.open(make(tmp_path, *parts(("train", "valid", "dev"))))
    assert len(dataset.subset("val").samples) == 4
    assert "'dev' and 'valid' are one part, val" in caplog.text


@pytest.mark.parametrize(
    ("folders", "why"),
    [
        (["train", "test"], "'train' has no class folders"),
        (["Test", "VAL"], "'Test', 'VAL' have no class folders"),
        ([*parts(("train", "val")), "more/cat"], "'more' is not"),
        (["cat", "dog", *parts(("Testing",))], "'cat', 'dog' are not"),
        (["train/cat", "train/dog", "val", "cat"], "'cat' is not"),
    ],
)
def test_what_looks_like_parts_is_refused_unless_told(tmp_path, folders, why):
    root = make(tmp_path, *folders)
    with pytest.raises(DataError, match=rf"named like parts.*{why}.*--folders-are-classes"):
        Dataset.open(root)
    dataset = Dataset.open(root, folders_are_classes=True)
    assert dataset.class_names == tuple(sorted({folder.split("/")[0] for folder in folders}))
    assert dataset.splits == ()


def test_one_class_may_be_called_like_a_part(tmp_path, caplog):
    assert Dataset.open(make(tmp_path, "train", "bus")).class_names == ("bus", "train")
    assert "'train' is taken as a class" in caplog.text

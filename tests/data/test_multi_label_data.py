"""Several labels per image: how tables are read, and how images are divided."""

from __future__ import annotations

import csv
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastcls.data.dataset import Dataset
from fastcls.data.splitter import assign_splits, split
from fastcls.data.writers.split import write_split
from fastcls.errors import DataError, OptionError
from fastcls.files import digest
from fastcls.specs import SplitSpec
from fastcls.tasks import SEVERAL_LABELS

SPEC = SplitSpec(0.2, 0.2)
ODD = ("a|b", 'quo"te', "[json]", "tab\tbed\rend", "日本")


def write(root: Path, text: str, names=("1.jpg", "2.jpg", "3.jpg")) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    table = root / "labels.csv"
    table.write_text(text, encoding="utf-8", newline="")
    return table


def names(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {sample.path: dataset.names_of(sample) for sample in dataset.samples}


@pytest.mark.parametrize("separator", ["$", "|", ";", " / "])
def test_from_csv__divides_labels(tmp_path, separator):
    cells = [separator.join(["sea", " sky ", "sea"]), "", f"sky{separator}"]
    text = "path,label\n" + "".join(f"{n}.jpg,{cell}\n" for n, cell in enumerate(cells, 1))
    dataset = Dataset.open(write(tmp_path, text), label_separator=separator)
    assert dataset.task is SEVERAL_LABELS and dataset.class_names == ("sea", "sky")
    assert names(dataset) == {"1.jpg": ("sea", "sky"), "2.jpg": (), "3.jpg": ("sky",)}
    assert [sample.labels for sample in dataset.samples] == [(0, 1), (), (1,)]
    assert dataset.counts() == {"sea": {"": 1}, "sky": {"": 2}}


def test_from_csv__a_column_per_class_says_the_same(tmp_path):
    joined = "split,Filenames,Labels\ntrain,1.jpg,b$a\nval,2.jpg,\ntest,3.jpg,b\n"
    columns = "Filenames,b,split,a,never\n1.jpg,1,train,1,0\n2.jpg,0,val,0.0,0\n3.jpg,1.0,test,0,0\n"
    one = Dataset.open(write(tmp_path, joined), label_separator="$")
    other = Dataset.open(write(tmp_path, columns))
    assert other.class_names == ("a", "b", "never")
    assert replace(other, class_names=("a", "b")) == one


def test_from_csv__images_may_lie_elsewhere(tmp_path):
    write(tmp_path / "images", "")
    (tmp_path / "labels.csv").write_text("path,labels\n1.jpg,a\n2.jpg,b\n")
    with pytest.raises(
        DataError,
        match=r"files that do not exist or are not regular files \(2\).*use --image-root for another folder",
    ):
        Dataset.open(tmp_path / "labels.csv", label_separator=",")
    dataset = Dataset.open(tmp_path / "labels.csv", label_separator=",", image_root=tmp_path / "images")
    assert dataset.locate(dataset.samples[0]) == tmp_path / "images/1.jpg"


@pytest.mark.parametrize(
    ("text", "separator", "message"),
    [
        (
            "path,labels\n1.jpg,a|b\n2.jpg,c\n",
            None,
            "column 'labels'. Pass .* --label-separator",
        ),
        ("path,labels\n1.jpg,a\n2.jpg,\n", "|", "has only one class, 'a'"),
        ("path,labels\n1.jpg,\n2.jpg,\n", "|", "has no class"),
        ("path,labels\n1.jpg,a|b\n1.jpg,a\n", "|", "listed twice"),
        ("path,labels\n1.jpg,a|b\n1.jpg,b|a\n", "|", None),
        ("path,labels\n1.jpg,a,b\n2.jpg,c\n", ",", "line 2 has 3 cells for 2 columns.* quote"),
        ("path,labels\n1.jpg,a|b\n,b|a\n", "|", "line 3: the path is empty"),
        ("path,a,b\n1.jpg,1,0\n2.jpg,2,0\n", None, "line 3: expected 0 or 1 .* Received: '2' in column 'a'"),
        ("path,a,b\n1.jpg,1\n", None, "line 2: expected 0 or 1 .* Received: '' in column 'b'"),
        ("path,a,a\n1.jpg,1,0\n", None, "duplicate or empty column names"),
        ("path,a,b\n1.jpg,1,0\n", "|", "no column labels to split. Remove --label-separator"),
        ("path,a\n1.jpg,1\n", None, "has only one class, '1'"),
        ("path,class,size\n1.jpg,rose,3\n", None, "has only one class, 'rose'"),
        ("path,kind,size\n1.jpg,rose,3\n", None, "expected 0 or 1 .* Columns: 'path', 'kind', 'size'"),
        ("labels,a\n1.jpg,rose\n", "|", "no column path"),
    ],
)
def test_from_csv__says_what_is_wrong(tmp_path, text, separator, message):
    table = write(tmp_path, text)
    if message is None:
        assert len(Dataset.open(table, label_separator=separator).samples) == 1
        return
    with pytest.raises(DataError, match=message):
        Dataset.open(table, label_separator=separator)


def test_from_csv__warns_of_what_is_odd(tmp_path, caplog):
    Dataset.open(write(tmp_path, "path,labels\n1.jpg,a|b\n2.jpg,c\n"), label_separator="$")
    assert "no image has more than one label (separator: '$')" in caplog.text
    Dataset.open(write(tmp_path, "path,a,b,c\n1.jpg,1,1,0\n2.jpg,0,0,0\n"))
    assert "has no images of class 'c'" in caplog.text


def test_from_csv__the_cells_of_many_classes_are_not_kept(tmp_path):
    header = ",".join(["path", *(f"class {number}" for number in range(100))])
    table = write(tmp_path, f"{header}\n" + f"1.jpg,1,1{',0' * 98}\n" * 2000)
    tracemalloc.start()
    assert len(Dataset.open(table).samples) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20  # together they take 10 MiB


def test_open__separators_that_are_none_and_folders(tmp_path):
    table = write(tmp_path, "path,label\n1.jpg,a\n2.jpg,b\n")
    for separator in ("", " ", '"', "\n"):
        with pytest.raises(OptionError, match="The label separator"):
            Dataset.open(table, label_separator=separator)
    with pytest.raises(
        DataError, match="apply only to a CSV or another table of paths and labels: --label-separator"
    ):
        Dataset.open(tmp_path, label_separator="|")


# Dividing


def make_labels(count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Images of none to many classes, which go together and of which one is rare."""
    random = np.random.default_rng(seed)
    chances = np.array([0.5, 0.3, 0.2, 0.1, 0.04])
    has = random.uniform(size=(count, 5)) < chances
    has[:4, 4] = True
    has[:, 1] |= has[:, 4]
    return [tuple(f"class {label}" for label in np.flatnonzero(row)) for row in has]


def make_keys(count: int) -> list[str]:
    return [digest(str(index).encode()) for index in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_assign_splits__every_class_in_every_part_in_its_share(seed):
    labels, keys = make_labels(300, seed), make_keys(300)
    splits = assign_splits(keys, labels, replace(SPEC, seed=seed))
    held = Counter((label, side) for given, side in zip(labels, splits, strict=True) for label in given)
    totals = Counter(label for given in labels for label in given)
    for label, total in totals.items():
        for side, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(held[label, side] - share * total) < 1
            assert held[label, side]
    unlabeled = Counter(side for given, side in zip(labels, splits, strict=True) if not given)
    assert abs(unlabeled["val"] - 0.2 * unlabeled.total()) <= 1
    sizes = Counter(splits)
    assert abs(sizes["val"] - 60) <= 9 and abs(sizes["test"] - 60) <= 9
    # By chance alone the classes miss their shares by more.
    assert _misses(labels, splits) < _misses(labels, np.random.default_rng(seed).permutation(splits)) / 2


def _misses(labels, splits) -> float:
    held = Counter((label, side) for given, side in zip(labels, splits, strict=True) for label in given)
    totals = Counter(label for given in labels for label in given)
    return sum(abs(held[label, "val"] / total - 0.2) for label, total in totals.items())


def test_assign_splits__several_labels_depend_on_seed_and_keys_alone_and_stay():
    labels, keys = make_labels(120), make_keys(120)
    groups = [f"g{index // 3}" if index < 30 else "" for index in range(120)]
    straight = assign_splits(keys, labels, SPEC, groups=groups)
    order = np.random.default_rng(0).permutation(120)
    mixed = [[column[index] for index in order] for column in (keys, labels, groups)]
    assert assign_splits(mixed[0], mixed[1], SPEC, groups=mixed[2]) == [straight[index] for index in order]
    assert assign_splits(keys, labels, replace(SPEC, seed=1), groups=groups) != straight
    sides = defaultdict(set)
    for group, side in zip(groups[:30], straight, strict=False):
        sides[group].add(side)
    assert all(len(found) == 1 for found in sides.values())
    fixed = dict(zip(keys[:80], assign_splits(keys[:80], labels[:80], SPEC), strict=True))
    grown = assign_splits(keys, labels, SPEC, fixed=fixed)
    assert grown[:80] == list(fixed.values())


def test_assign_splits__one_label_each_is_divided_as_ever():
    labels, keys = [f"{n % 7 % 3}" for n in range(90)], make_keys(90)
    assert assign_splits(keys, [(label,) for label in labels], SPEC) == assign_splits(keys, labels, SPEC)


def test_assign_splits__names_classes_that_are_too_small():
    labels = [("a", "b")] * 10 + [("a", "tiny")] * 2
    with pytest.raises(DataError, match=r"'tiny' \(images: 2, separable: 2\)"):
        assign_splits(make_keys(12), labels, SPEC)


# The table of a split


@pytest.fixture
def source(tmp_path) -> Dataset:
    labels = make_labels(60)
    names = [f"{number}.jpg" for number in range(60)]
    cells = ["$".join(given) for given in labels]
    text = "path,labels,group\n" + "".join(
        f"{name},{cell},{'g' if n < 3 else ''}\n"
        for n, (name, cell) in enumerate(zip(names, cells, strict=True))
    )
    return Dataset.open(write(tmp_path / "photos", text, names), label_separator="$")


def test_write_split__of_several_labels_is_opened_as_what_it_says(source, tmp_path):
    out = tmp_path / "deep/out"
    result = write_split(source, out, SPEC)
    assert Dataset.open(out) == result.dataset == Dataset.open(out / "split.csv")
    assert result.dataset.class_names == source.class_names and (result.added, result.tied) == (60, 3)
    of = {digest(result.dataset.locate(s).read_bytes()): s for s in result.dataset.samples}
    alone = {digest(source.locate(s).read_bytes()): s for s in split(source, SPEC).samples}
    assert {key: (s.labels, s.split, s.group) for key, s in of.items()} == {
        key: (s.labels, s.split, s.group) for key, s in alone.items()
    }
    assert [path.name for path in out.iterdir()] == ["split.csv"]


def test_write_split__of_several_labels_keeps_the_split_of_each_image(source, tmp_path):
    out = tmp_path / "out"
    first = write_split(replace(source, samples=source.samples[:50]), out, SPEC, allow_small=True)
    gone = replace(source, samples=source.samples[5:])
    second = write_split(gone, out, SPEC, allow_small=True)
    assert (second.added, second.vanished, len(second.dataset.samples)) == (10, 5, 55)
    before = {sample.path: sample.split for sample in first.dataset.samples}
    after = {sample.path: sample.split for sample in second.dataset.samples}
    assert all(after[path] == before[path] for path in before.keys() & after.keys())


def test_write_split__of_several_labels_counts_copies_too(source, tmp_path):
    copied = source.root / "1.jpg"
    (source.root / "0.jpg").write_bytes(copied.read_bytes())
    first = write_split(source, tmp_path / "out", SPEC, allow_small=True)
    assert (first.added, len(first.dataset.samples)) == (60, 60)
    again = write_split(source, tmp_path / "out", SPEC, allow_small=True)
    assert (again.added, again.vanished) == (0, 0)


def test_open__a_users_own_split_csv_does_not_hide_the_class_folders(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "split.csv").write_text("path,fold\na/1.jpg,1\n")
    dataset = Dataset.open(tmp_path)
    assert (dataset.class_names, len(dataset.samples), dataset.left_out) == (("a", "b"), 2, 1)


def test_write_split__of_several_labels_whatever_characters_the_names_hold(tmp_path):
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", *ODD])
        for number in range(15):
            (tmp_path / f"{number}.jpg").write_bytes(bytes([number]))
            writer.writerow([f"{number}.jpg", *(int(number % 5 in (n, n - 1)) for n in range(5))])
    source = Dataset.open(tmp_path / "labels.csv")
    made = write_split(source, tmp_path / "out", SPEC).dataset
    assert Dataset.open(tmp_path / "out") == made and made.class_names == tuple(sorted(ODD))


def test_write_split__of_several_labels_leaves_what_is_not_its_own(source, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    with pytest.raises(DataError, match=r"was not made by split-data: it holds 'notes.txt'"):
        write_split(source, tmp_path / "full", SPEC)
    (tmp_path / "full/split.csv").write_text("path,label\n1.jpg,a\n")
    with pytest.raises(DataError, match=r"columns path,split,group,digest.*Received: path,label"):
        write_split(source, tmp_path / "full", SPEC)
    (tmp_path / "full/split.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        write_split(source, tmp_path / "full", SPEC)
    named = replace(source, class_names=("Split", *source.class_names[1:]))
    with pytest.raises(DataError, match="No class can be called 'split'"):
        write_split(named, tmp_path / "out", SPEC)
    assert not (tmp_path / "out").exists()

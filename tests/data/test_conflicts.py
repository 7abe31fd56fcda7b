"""One photo under two labels: named and counted, dropped, or refused."""

import random
from collections import defaultdict
from pathlib import Path

import pytest

from fastcls import files
from fastcls.data import image_bytes
from fastcls.data.conflicts import find_conflicts
from fastcls.data.dataset import Dataset
from fastcls.data.splitter import SplitSpec
from fastcls.data.writers.split import write_split
from fastcls.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "in" / name / f"{number}.jpg").write_bytes(f"{name} {number}".encode())
        (tmp_path / "in" / name / "copy.jpg").write_bytes(b"the same")
    (tmp_path / "in/cat/twin.jpg").write_bytes(b"cat 0")  # of the same label: no conflict
    return tmp_path / "in"


def test_open__drops_all_of_them(root, caplog):
    everything = Dataset.open(root)
    assert len(everything.samples) == 11 and not caplog.text
    dataset = Dataset.open(root, conflicts="drop")
    gone = {sample.path for sample in everything.samples} - {sample.path for sample in dataset.samples}
    assert gone == {"cat/copy.jpg", "dog/copy.jpg"}
    assert "1 image under different labels: " in caplog.text and "copy.jpg (cat)" in caplog.text


def test_open__stops(root):
    with pytest.raises(DataError, match=r"1 image under .*copy\.jpg \(cat\).*copy\.jpg \(dog\)"):
        Dataset.open(root, conflicts="error")
    (root / "dog/copy.jpg").write_bytes(b"another")
    assert Dataset.open(root, conflicts="error") == Dataset.open(root)


def test_open__a_path_listed_under_two_labels(root, caplog):
    rows = ["cat/0.jpg,cat", "cat/0.jpg,dog", "cat/1.jpg,cat", "dog/1.jpg,dog"]
    table = root / "table.csv"
    table.write_text("path,label\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"line 3: 'cat/0\.jpg' is listed twice"):
        Dataset.open(table)
    assert [s.path for s in Dataset.open(table, conflicts="drop").samples] == ["cat/1.jpg", "dog/1.jpg"]
    said = "1 image under different labels: 'cat/0.jpg (cat)', 'cat/0.jpg (dog)'. All of them are left out"
    assert f"{table}: {said}" in caplog.text


@pytest.mark.parametrize("conflicts", ["keep", "error"])
def test_open__an_image_has_one_row(root, conflicts):
    (root / "table.csv").write_text("path,label\ncat/0.jpg,cat\ncat/0.jpg,dog\ndog/0.jpg,dog")
    with pytest.raises(DataError, match=r"an image has one, also with --conflicts keep\. --conflicts drop"):
        Dataset.open(root / "table.csv", conflicts=conflicts)


def test_open__no_class_is_dropped_with_its_last_image(root):
    for path in (root / "dog").glob("?.jpg"):
        path.unlink()
    said = r"--conflicts drop leaves no image of class 'dog'.*Delete the wrong ones"
    with pytest.raises(DataError, match=said):
        Dataset.open(root, conflicts="drop")
    (root / "table.csv").write_text("path,label\ncat/0.jpg,cat\ncat/1.jpg,cat\ncat/1.jpg,dog")
    with pytest.raises(DataError, match=said):
        Dataset.open(root / "table.csv", conflicts="drop")


def test_open__what_is_dropped_is_no_image_without_a_row(root, caplog):
    rows = [f"{name}/{number}.jpg,{name}" for name in ("cat", "dog") for number in range(4)]
    rows += ["cat/copy.jpg,cat", "cat/copy.jpg,dog", "cat/twin.jpg,cat"]
    (root / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    dataset = Dataset.open(root, conflicts="drop")
    assert (len(dataset.samples), dataset.left_out) == (9, 1)
    assert "1 image without a row in the metadata is left out: 'dog/copy.jpg'" in caplog.text


@pytest.mark.parametrize("seed", range(20))
def test_find_conflicts__are_those_of_the_digests(tmp_path, seed):
    chance, labels, digests = random.Random(seed), [], []
    for number in range(60):
        # A few sizes, beginnings and ends, each alone the same in many files; some are empty or missing.
        size, begin, end = (chance.choice(choices) for choices in ([0, 9000, 9001], "ab", "cd"))
        path = tmp_path / str(number)
        path.write_bytes((begin * 10 + "x" * size + end if size else "").encode())
        digests.append(files.file_digest(path) if size else "")
        labels.append(chance.choice([(), (0,), (1,), (0, 1)]))
        if chance.random() < 0.1:
            path.unlink()
            digests[-1] = ""
    expected = defaultdict(list)
    for number, digest in enumerate(digests):
        if digest:
            expected[digest].append(number)
    wrong = [group for group in expected.values() if len({labels[place] for place in group}) > 1]
    paths = list(map(str, range(60)))
    assert wrong and sorted(find_conflicts(tmp_path, paths, labels)) == sorted(wrong)
    some = [digest if number % 2 else "" for number, digest in enumerate(digests)]
    assert sorted(find_conflicts(tmp_path, paths, labels, some)) == sorted(wrong)


def test_warn_of_conflicts__reads_nearly_nothing(root, monkeypatch, caplog):
    read = []
    for number in range(50):
        for name, size in (("cat", 100), ("dog", 1000)):
            (root / name / f"more{number}.jpg").write_bytes(bytes(size + number))
    real = image_bytes.digest
    monkeypatch.setattr(image_bytes, "digest", lambda path: read.append(path) or real(path))
    Dataset.open(root).warn_of_conflicts()
    assert "1 image under different labels" in caplog.text
    assert sorted(Path(path).name for path in read) == ["copy.jpg", "copy.jpg"]


def test_warn_of_conflicts__reads_nothing_that_is_known(root, monkeypatch, caplog):
    dataset = Dataset.open(root)
    digests = [files.file_digest(dataset.locate(sample)) for sample in dataset.samples]
    monkeypatch.setattr(files, "open_file", None)
    dataset.warn_of_conflicts(digests)
    assert "1 image under different labels: 'cat/copy.jpg (cat)', 'dog/copy.jpg (dog)'" in caplog.text


def test_write_split__warns(root, tmp_path, caplog):
    write_split(Dataset.open(root), tmp_path / "out", SplitSpec())
    assert "1 image under different labels" in caplog.text and "--conflicts drop" in caplog.text


def test_write_split__of_several_labels_warns(root, tmp_path, caplog):
    rows = [f"{name}/{stem}.jpg,{name}|x" for name in ("cat", "dog") for stem in (0, 1, 2, 3, "copy")]
    (root / "table.csv").write_text("path,labels\n" + "\n".join(rows))
    write_split(Dataset.open(root / "table.csv", label_separator="|"), tmp_path / "out", SplitSpec())
    assert "1 image under different labels: 'cat/copy.jpg (cat, x)'" in caplog.text

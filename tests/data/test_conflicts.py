"""One photo under two labels: named and counted, dropped, or refused."""

from pathlib import Path

import pytest

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


def test_open__a_path_listed_under_two_labels(root):
    rows = ["cat/0.jpg,cat", "cat/0.jpg,dog", "cat/1.jpg,cat", "dog/1.jpg,dog"]
    table = root / "table.csv"
    table.write_text("path,label\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"line 3: 'cat/0\.jpg' is listed twice"):
        Dataset.open(table)
    assert [s.path for s in Dataset.open(table, conflicts="drop").samples] == ["cat/1.jpg", "dog/1.jpg"]


def test_write_split__warns(root, tmp_path, caplog):
    write_split(Dataset.open(root), tmp_path / "out", SplitSpec())
    assert "1 image under different labels" in caplog.text and "--conflicts drop" in caplog.text


def test_write_split__of_several_labels_warns(root, tmp_path, caplog):
    rows = [f"{name}/{stem}.jpg,{name}|x" for name in ("cat", "dog") for stem in (0, 1, 2, 3, "copy")]
    (root / "table.csv").write_text("path,labels\n" + "\n".join(rows))
    write_split(Dataset.open(root / "table.csv", label_separator="|"), tmp_path / "out", SplitSpec())
    assert "1 image under different labels: 'cat/copy.jpg (cat, x)'" in caplog.text

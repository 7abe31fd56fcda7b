"""The same photos, told in the layouts of many tools, are the same data set."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
import unicodedata
from pathlib import Path

import pytest

from fastcls.data.dataset import Dataset
from fastcls.data.readers import places
from fastcls.errors import DataError, OptionError
from fastcls.tasks import SEVERAL_LABELS

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


def test_open__splits_of_a_column_are_those_of_folders(root, caplog):
    told = {"train": "Training", "val": "dev", "test": "EVAL"}
    table = root / "table.csv"
    table.write_text(text(["image", "target", "fold"], lambda path, name, split: (path, name, told[split])))
    by_column = Dataset.open(table, split_column="Fold")
    inside = root / "split"
    for path, _, split in PHOTOS:
        (inside / told[split] / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(inside / told[split] / path)
    by_folder = Dataset.open(inside)
    assert by_folder.counts() == by_column.counts()
    assert by_folder.splits == ("train", "val", "test") and not caplog.text


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_open__the_metadata_of_an_image_folder(root, name):
    content = text(["file_name", "label", "split"], lambda *photo: photo)
    (root / name).write_text(lines("file_name", "label", "split") if name.endswith("l") else content)
    dataset = Dataset.open(root)
    assert dataset.counts() == {
        unicodedata.normalize("NFC", name): {"train": 2, "val": 1, "test": 1} for name in sorted(CLASSES)
    }
    (root / name).write_text(
        '{"file_name": "1.jpg"}' if name.endswith("l") else "file_name,caption\n1.jpg,x\n"
    )
    assert Dataset.open(root).splits == ()


def test_open__metadata_in_each_part(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for number, name in enumerate(CLASSES):
            (tmp_path / part / f"{number}.jpg").write_bytes(f"{part} {name}".encode())
        rows = "".join(f"{number}.jpg,{name}\n" for number, name in enumerate(CLASSES))
        (tmp_path / part / "metadata.csv").write_text(f"file_name,label\n{rows}")
    dataset = Dataset.open(tmp_path)
    assert [(sample.path, sample.split) for sample in dataset.samples] == [
        *((f"test/{number}.jpg", "test") for number in (0, 1)),
        *((f"train/{number}.jpg", "train") for number in (0, 1)),
    ]


@pytest.mark.parametrize(
    "content",
    [
        text(["path", "tags"], lambda path, name, split: (path, f"['{name}', 'all']")),
        text(["path", "labels"], lambda path, name, split: (path, json.dumps([name, "all"]))),
        "\n".join(json.dumps({"path": path, "labels": [name, "all"]}) for path, name, _ in PHOTOS),
        text(["", "path", "all", *CLASSES], lambda p, name, _: ("", p, True, *(name == c for c in CLASSES))),
    ],
    ids=["Python", "JSON", "JSON Lines", "True and False"],
)
def test_open__lists_and_columns_are_several_labels(root, content):
    table = root / ("table.jsonl" if content.startswith("{") else "table.csv")
    table.write_text(content)
    dataset = Dataset.open(table)
    assert dataset.task is SEVERAL_LABELS
    assert dataset.class_names == tuple(sorted(("all", *CLASSES)))
    assert {(s.path, dataset.names_of(s)) for s in dataset.samples} == {
        (path, tuple(sorted(("all", name)))) for path, name, _ in PHOTOS
    }


def test_open__a_binary_target_has_two_classes(root):
    table = root / "table.csv"
    table.write_text(text(["filename", "target"], lambda path, name, split: (path, int(name == "daisy"))))
    dataset = Dataset.open(table)
    assert dataset.counts() == {"0": {"": 4}, "1": {"": 4}}
    table.write_text(text(["path", "target", "w"], lambda path, name, split: (path, name == "daisy", 640)))
    assert Dataset.open(table).class_names == ("False", "True")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (text(["n", "x"], lambda *photo: (1, 2)), {}, r"no column path .*Received: n, x.*--path-column"),
        (
            text(["path", "x"], both),
            {"label_column": "kind"},
            r"no column 'kind' \(--label-column\).*path, x",
        ),
        (text(["path", "x"], both), {"path_column": "3"}, r"no column '3' \(--path-column\).*path, x"),
        (text(["path", "label"], lambda *p: (p[0], "NaN")), {}, r"line 2: .* empty \(as in 7 other lines\)"),
        (text(["path", "label"], stem), {"path_suffix": ".png"}, r"files.*\(8\): 'daisy/0\.png'"),
        (b"path,label\0", {}, "cannot be read as CSV: it is no text"),
        ("[1]\n", {}, "no column path"),
    ],
)
def test_open__a_table_that_is_refused_is_told_its_columns(root, content, options, message):
    table = root / "table.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        Dataset.open(table, **options)


def test_open__a_json_line_that_is_no_object(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"path": "a.jpg", "label": "x"}\n["b.jpg"]\n')
    with pytest.raises(DataError, match=r"line 2 is no JSON object.*Each line must be an object"):
        Dataset.open(tmp_path / "a.jsonl")


def test_open__says_where_the_files_are(root):
    (root / "tables").mkdir()
    table = root / "tables/train.csv"
    table.write_text("id,label\n0,daisy\n1,daisy\n2,rose\n3,rose\n")
    (root / "tables/images").mkdir()
    for number in range(4):
        (root / f"tables/images/{number}.jpg").touch()
    with pytest.raises(DataError, match=r"'0' is there with --image-root .*tables/images"):
        Dataset.open(table)


@pytest.mark.parametrize("options", [{"delimiter": ";;"}, {"conflicts": "some"}])
def test_open__options_that_are_none(root, options):
    with pytest.raises(OptionError, match=r"Received|Choose one of"):
        Dataset.open(root, **options)


def test_open__says_that_a_table_is_not_utf8(root, caplog):
    (root / "table.csv").write_bytes(text(["path", "label"], both).encode("cp1252"))
    Dataset.open(root / "table.csv")
    assert "is not UTF-8: it is read as Windows-1252 (Latin-1)" in caplog.text


def test_open__classes_that_differ_in_case_alone(root, caplog):
    (root / "Daisy").mkdir()
    (root / "Daisy/1.jpg").touch()
    assert len(Dataset.open(root).class_names) == 3
    assert "differ only in upper and lower case: 'Daisy', 'daisy'" in caplog.text


def test_open__one_name_in_two_spellings_is_one_class(root):
    other = root / unicodedata.normalize("NFD", "café")
    other.mkdir()
    (other / "9.jpg").touch()
    dataset = Dataset.open(root)
    assert dataset.counts() == {"café": {"": 5}, "daisy": {"": 4}}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_long_list_takes_little_memory_besides_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    count = 4_000
    rows = {
        "path": [f"images/{n:030}.jpg" for n in range(count)],
        "label": [f"c{n % 9}" for n in range(count)],
    }
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        path.write_text("path,label\n" + "\n".join(map(",".join, zip(*rows.values(), strict=True))))
    else:
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.table(rows), path)
    monkeypatch.setattr(places, "_is_file", lambda root, path: True)
    Dataset.open(path, conflicts="keep")  # what is imported on the way does not count
    tracemalloc.start()
    try:
        dataset = Dataset.open(path, conflicts="keep")
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(dataset.samples) == count
    assert peak - held < 250 * count

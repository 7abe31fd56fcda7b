"""Tables and folders that can be read in two ways are refused, or a warning says how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastcls.data.dataset import Dataset
from fastcls.errors import DataError, OptionError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of four images, in folders."""
    for name in ("daisy", "rose"):
        for number in range(4):
            path = tmp_path / name / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(f"{name} {number}".encode())
    return tmp_path


def write(root, *rows, columns="path;label", name="table.csv"):
    table = root / name
    table.write_text("\n".join([*([columns] if columns else []), *rows]))
    return table


@pytest.mark.parametrize("separator", [None, ",", "|"])
@pytest.mark.parametrize(
    "cell",
    [
        "['daisy' 'x']",
        "['daisy'\n 'x']",
        "[0 1]",
        "[]",
        "['daisy', None]",
        "('daisy', 'x')",
        "{'daisy'}",
        "[daisy, x",
        "[daisy, x]",
    ],
)
def test_open__refuses_labels_that_are_no_clean_lists(root, cell, separator):
    table = write(root, "daisy/0.jpg;daisy", f'daisy/1.jpg;"{cell}"', "rose/0.jpg;rose", "rose/1.jpg;rose")
    with pytest.raises(DataError, match=r"line [34]: the label looks like a list") as error:
        Dataset.open(table, label_separator=separator, delimiter=";")
    assert f"Received: {cell}." in str(error.value)


def test_open__names_the_cell_that_is_no_clean_list(root):
    table = write(root, "daisy/0.jpg;['a']", "rose/0.jpg;['a' 'b']", "rose/1.jpg;['b', 'c']")
    with pytest.raises(DataError, match=r"line 3: the label looks like a list.*Received: \['a' 'b'\]"):
        Dataset.open(table, delimiter=";")


@pytest.mark.parametrize("cell", ["['daisy', 'x']", "['daisy']"])
def test_open__refuses_lists_beside_names_or_with_a_separator(root, cell):
    table = write(root, f"daisy/0.jpg;{cell}", "rose/0.jpg;rose", "rose/1.jpg;rose")
    with pytest.raises(DataError, match=r"line 2: the label looks like a list.*Write all cells as lists"):
        Dataset.open(table, delimiter=";")
    table = write(root, f"daisy/0.jpg;{cell}", f"rose/0.jpg;{cell}")
    with pytest.raises(DataError, match=r"line 2: the label looks like a list.*Remove --label-separator"):
        Dataset.open(table, delimiter=";", label_separator=",")


def test_open__a_name_may_be_in_parentheses(root):
    table = write(root, "daisy/0.jpg;(other)", "rose/0.jpg;[1]", "rose/1.jpg;(a) rose")
    assert Dataset.open(table).class_names == ("(a) rose", "(other)", "[1]")


@pytest.mark.parametrize(
    "options",
    [
        {"path_column": "path", "label_column": "1"},
        {"label_column": "LABEL", "split_column": "label"},
        {"path_column": "1", "split_column": "path"},
    ],
)
def test_open__refuses_one_column_for_two_purposes(root, options):
    table = write(root, "daisy/0.jpg,daisy", "rose/0.jpg,rose", columns="path,label")
    first, second = (f"--{name.replace('_', '-')}" for name in options)
    with pytest.raises(OptionError, match=f"{first} and {second} name the same column"):
        Dataset.open(table, **options)


@pytest.mark.parametrize(
    ("columns", "twice"),
    [("path,label,label", "label"), ("path,path,label", "path"), ("path,kind,kind", "kind")],
)
def test_open__refuses_a_column_that_is_there_twice(root, columns, twice):
    table = write(root, "daisy/0.jpg,daisy,x", "rose/0.jpg,rose,y", columns=columns)
    options = {"label_column": "kind"} if twice == "kind" else {}
    with pytest.raises(DataError, match=rf"has several columns '{twice}'.* by number"):
        Dataset.open(table, **options)


@pytest.mark.parametrize(("number", "names"), [("2", ("daisy", "rose")), ("3", ("x", "y"))])
def test_open__a_number_chooses_of_columns_of_one_name(root, number, names):
    table = write(root, "daisy/0.jpg,daisy,x", "rose/0.jpg,rose,y", columns="path,label,label")
    assert Dataset.open(table, label_column=number).class_names == names


def test_open__ignores_other_columns_that_are_there_twice(root):
    table = write(root, "daisy/0.jpg,daisy,2,3", "rose/0.jpg,rose,2,3", columns="path,label,n,n")
    assert Dataset.open(table).class_names == ("daisy", "rose")


def test_open__says_that_folders_that_differ_in_case_are_one_part(root, caplog):
    for part in ("train", "Train", "test"):
        for name in ("daisy", "rose"):
            (root / "parts" / part / name).mkdir(parents=True)
            (root / "parts" / part / name / "1.jpg").write_bytes(f"{part} {name}".encode())
    assert Dataset.open(root / "parts").counts()["daisy"] == {"train": 2, "test": 1}
    assert "'Train' and 'train' are one part, train" in caplog.text


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ("daisy,,", "rose,,"),
            "labels. Received: labels 'rose', earlier 'daisy'. Remove one of the rows: an image has one, "
            "also with --conflicts keep. --conflicts drop leaves such images out; if an image can have "
            "several labels, write them into one row (see --label-separator).",
        ),
        (
            ("daisy,train,", "daisy,,a"),
            "split and group. Received: split none, earlier 'train'; group 'a', earlier none. Remove one of "
            "the rows.",
        ),
    ],
)
def test_open__says_in_words_how_two_rows_of_an_image_differ(root, rows, said):
    table = write(root, *(f"daisy/0.jpg,{row}" for row in rows), columns="path,label,split,group")
    with pytest.raises(DataError) as error:
        Dataset.open(table)
    assert str(error.value) == f"{table}, line 3: 'daisy/0.jpg' is listed twice with different {said}"


def test_open__refuses_metadata_in_some_of_the_parts(root):
    for part in ("train", "test"):
        for name in ("daisy", "rose"):
            (root / "parts" / part / name).mkdir(parents=True)
            (root / "parts" / part / name / "1.jpg").write_bytes(f"{part} {name}".encode())
    rows = ("daisy/1.jpg,daisy", "rose/1.jpg,rose")
    write(root / "parts/train", *rows, columns="file_name,label", name="metadata.csv")
    with pytest.raises(DataError, match=r"'test' has class folders without metadata.*'train/metadata\.csv'"):
        Dataset.open(root / "parts")
    write(root / "parts/test", *rows, columns="file_name,label", name="metadata.csv")
    assert Dataset.open(root / "parts").counts()["daisy"] == {"train": 1, "test": 1}


def test_open__counts_images_that_the_metadata_does_not_list(root, caplog):
    rows = ("daisy/0.jpg,daisy", "rose/0.jpg,rose", "rose/1.jpg,rose")
    write(root, *rows, columns="file_name,label", name="metadata.csv")
    dataset = Dataset.open(root)
    assert len(dataset.samples) == 3 and dataset.left_out == 5
    assert "5 images without a row in the metadata are left out: 'daisy/1.jpg'" in caplog.text


def test_open__a_list_of_paths_without_suffixes_has_no_first_line_of_names(root):
    rows = [f"{name}/{number},{name}" for name in ("daisy", "rose") for number in range(4)]
    dataset = Dataset.open(write(root, *rows, columns=""), path_column="1", label_column="2")
    assert dataset.samples == Dataset.open(root).samples


@pytest.mark.parametrize(
    ("name", "rows", "options", "flag"),
    [
        ("a.csv", ("path,label", "daisy/0.jpg,a", "rose/0.jpg,b"), {"path_suffix": ".png"}, "--path-suffix"),
        ("a.csv", ("path,label", "daisy/0.jpg,a", "rose/0.jpg,b"), {"path_suffix": ".jpg"}, "--path-suffix"),
        (
            *("a.csv", ("path,label", "daisy/0.jpg,a", "rose/0.jpg,b"), {"folders_are_classes": True}),
            "--folders-are-classes",
        ),
        (
            "a.jsonl",
            ('{"path": "daisy/0.jpg", "label": "a"}', '{"path": "rose/0.jpg", "label": "b"}'),
            {"delimiter": ";"},
            "--delimiter",
        ),
    ],
)
def test_open__refuses_options_without_effect(root, name, rows, options, flag):
    table = write(root, *rows, columns="", name=name)
    assert Dataset.open(table).class_names == ("a", "b")
    with pytest.raises(DataError, match=f"{flag}.* has no effect.*Remove it"):
        Dataset.open(table, **options)


def test_open__a_suffix_that_one_path_needs_has_an_effect(root):
    table = write(root, "daisy/0.jpg,a", "rose/0,b", columns="path,label")
    assert Dataset.open(table, path_suffix=".jpg").class_names == ("a", "b")

"""Text tables as spreadsheets and tools write them: what comes before the names, encodings, JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastcls.data.dataset import Dataset
from fastcls.errors import DataError

ROWS = [f"{name}/{number}.jpg,{name}" for name in ("daisy", "rose") for number in range(3)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for row in ROWS:
        path = tmp_path / row.partition(",")[0]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(row.encode())
    return tmp_path


def write(root: Path, *first: str, rows=ROWS, separator=",", encoding="utf-8", name="table.csv") -> Path:
    lines = [*first, *(row.replace(",", separator) for row in rows)]
    (root / name).write_bytes("\n".join(lines).encode(encoding))
    return root / name


@pytest.mark.parametrize(
    ("first", "separator", "said"),
    [
        (["sep=;", "path;label"], ";", "cells separated by ';'"),
        (['"sep=;"', "path;label"], ";", "cells separated by ';'"),
        (["SEP=\t", "path\tlabel"], "\t", "cells separated by tabs"),
        (["sep=,", "path,label"], ",", ""),
        (["sep=!", "path!label"], "!", "cells separated by '!'"),
        (["sep=;", "# made by hand", "path;label"], ";", "cells separated by ';'; 1 line with # left out"),
        (["# made by hand", "", "# in 2024, by me", "path,label"], ",", "2 lines with # left out"),
        (["#made by hand", "path;label"], ";", "cells separated by ';'; 1 line with # left out"),
        (["#path,label"], ",", ""),
        (["# path,label"], ",", ""),
        (["# made by hand", "#path,label"], ",", "1 line with # left out"),
        (["# bild;art"], ";", "cells separated by ';'; paths in 'bild'; labels in 'art'"),
        (
            ["# made by hand"],
            ",",
            "1 line with # left out; no first line of names: columns are numbered; paths in '1'; labels in "
            "'2'",
        ),
    ],
)
def test_open__what_comes_before_the_names(root, first, separator, said):
    table = write(root, *first, separator=separator)
    dataset = Dataset.open(table)
    assert dataset.samples == Dataset.open(root).samples
    assert dataset.reading == (f"{table}: {said}" if said else "")


def test_open__a_name_may_begin_with_a_number_sign(root):
    for number in range(2):
        (root / f"#{number}.jpg").write_bytes(bytes([number]))
    table = write(root, rows=["#0.jpg,daisy", "#1.jpg,rose"])
    assert [sample.path for sample in Dataset.open(table).samples] == ["#0.jpg", "#1.jpg"]
    table = write(root, "#,path,label", rows=[f"{n},{row}" for n, row in enumerate(ROWS)])
    assert Dataset.open(table).samples == Dataset.open(root).samples


def test_open__lines_are_counted_from_the_first_of_the_file(root):
    table = write(root, "sep=;", "# by hand", "path;label", separator=";", rows=[*ROWS, "rose/0.jpg,"])
    with pytest.raises(DataError, match="line 10: the label is empty"):
        Dataset.open(table)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16"])
def test_open__utf16_with_and_without_its_mark(root, encoding):
    (root / "café").mkdir()
    (root / "café/1.jpg").write_bytes(b"1")
    table = write(root, "path,label", rows=[*ROWS, "café/1.jpg,café"], encoding=encoding)
    assert Dataset.open(table).samples == Dataset.open(root).samples
    assert Dataset.open(table).reading == f"{table}: UTF-16"


def test_open__a_json_file_has_an_object_per_line(root):
    rows = [f'{{"path": "{path}", "label": "{name}"}}' for path, name in (row.split(",") for row in ROWS)]
    lines = root / "lines.json"
    lines.write_text("\n".join(rows))
    assert Dataset.open(lines).samples == Dataset.open(root).samples
    array = root / "array.json"
    array.write_text(f"[{', '.join(rows)}]")
    with pytest.raises(
        DataError, match=r"array\.json holds one JSON array.*JSON Lines.*Parquet.*array\.jsonl"
    ):
        Dataset.open(array)


def test_open__paths_that_need_different_suffixes(root):
    for number in range(2):
        (root / f"daisy/{number}.jpg").rename(root / f"daisy/{number}.PNG")
    table = write(root, "path,label", rows=[row.replace(".jpg", "") for row in ROWS[:-1]] + ROWS[-1:])
    dataset = Dataset.open(table)
    assert dataset.samples == Dataset.open(root).samples
    assert dataset.reading == f"{table}: .PNG or .jpg appended to paths"
    (root / "daisy/1.PNG").unlink()
    with pytest.raises(DataError, match=r"do not exist.*\(1\): 'daisy/1\.PNG'"):
        Dataset.open(table)


def test_open__a_suffix_that_one_of_several_tables_needs_has_an_effect(root):
    for part, suffix in (("train", ""), ("test", ".jpg")):
        for name in ("daisy", "rose"):
            (root / "parts" / part / name).mkdir(parents=True)
            (root / "parts" / part / name / "1.jpg").write_bytes(f"{part} {name}".encode())
        rows = [f"{name}/1{suffix},{name}" for name in ("daisy", "rose")]
        write(root / "parts" / part, "file_name,label", rows=rows, name="metadata.csv")
    assert len(Dataset.open(root / "parts", path_suffix=".jpg").samples) == 4
    write(
        root / "parts/train",
        "file_name,label",
        rows=["daisy/1.jpg,daisy", "rose/1.jpg,rose"],
        name="metadata.csv",
    )
    with pytest.raises(DataError, match=r"--path-suffix \.jpg has no effect: all paths in .*parts"):
        Dataset.open(root / "parts", path_suffix=".jpg")


def test_open__an_image_root_that_is_none(root):
    table = write(root, "path,label")
    with pytest.raises(DataError, match=r"--image-root .*none does not exist \(/.*none\)\. Name the folder"):
        Dataset.open(table, image_root=str(root / "none"))
    with pytest.raises(DataError, match=r"table\.csv is not a folder"):
        Dataset.open(table, image_root=str(table))


def test_open__says_where_paths_begin(root, monkeypatch):
    write(root, "path,label", rows=[*ROWS, "rose/9.jpg,rose"])
    monkeypatch.chdir(root)
    with pytest.raises(DataError, match=f"relative to {root}; use --image-root for another"):
        Dataset.open("table.csv")

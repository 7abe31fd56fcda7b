"""What a person has noted in the table of an audit, and what becomes of the samples."""

from __future__ import annotations

import csv

import pytest

from fastcls import files
from fastcls.cache.corrections import COLUMNS, Corrections
from fastcls.cache.samples import SampleRow, SampleTable
from fastcls.data.csv_table import write_table
from fastcls.errors import DataError
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

DIGESTS = [files.digest(str(place).encode()) for place in range(6)]
SAMPLES = SampleTable.of(
    [SampleRow(f"{place}.png", ("a",), "train", "", digest) for place, digest in enumerate(DIGESTS)]
    + [SampleRow("copy.png", ("b",), "val", "", DIGESTS[0])]
)


def write(path, *lines):
    """Write a table of (digest, action, suggested)."""
    rows = [
        dict.fromkeys(COLUMNS, "") | dict(zip(("digest", "action", "suggested"), own, strict=True))
        for own in lines
    ]
    write_table(path, COLUMNS, ([f"{row[name]}" for name in COLUMNS] for row in rows))
    return path


def test_corrections__are_found_by_digest_whatever_the_paths(tmp_path):
    path = write(
        tmp_path / "issues.csv",
        *[(DIGESTS[0], "relabel", "c"), (DIGESTS[1], "drop", ""), (DIGESTS[2], "split:val", "b")],
        *[(DIGESTS[3], "", "b"), (files.digest(b"gone"), "drop", "")],
    )
    corrections = Corrections.read(path, ONE_LABEL)
    made = corrections.apply(SAMPLES)
    assert [(row.path, row.label, row.split) for row in made] == [
        *[("0.png", "c", "train"), ("2.png", "a", "val"), ("3.png", "a", "train")],
        *[("4.png", "a", "train"), ("5.png", "a", "train"), ("copy.png", "c", "val")],
    ]
    told = corrections.told(SAMPLES)
    assert "2 relabeled, 1 dropped, 1 moved to another split; 1 image of it not in the data set" in told
    assert [row.label for row in SAMPLES] == ["a"] * 6 + ["b"]  # as it was


def test_corrections__two_lines_of_one_image_add_up(tmp_path):
    lines = [(DIGESTS[0], "relabel", "c"), (DIGESTS[0], "split:train", ""), (DIGESTS[0], "relabel", "c")]
    made = Corrections.read(write(tmp_path / "issues.csv", *lines), ONE_LABEL).apply(SAMPLES)
    assert (made[-1].label, made[-1].split) == ("c", "train")


def test_corrections__of_several_labels_are_lists(tmp_path):
    lines = [(DIGESTS[0], "relabel", '["b", "a"]'), (DIGESTS[1], "relabel", "[]")]
    made = Corrections.read(write(tmp_path / "issues.csv", *lines), SEVERAL_LABELS).apply(SAMPLES)
    assert [row.labels for row in made][:2] == [("a", "b"), ()]


@pytest.mark.parametrize(
    ("lines", "task", "complaint"),
    [
        ([(DIGESTS[0], "", ""), (DIGESTS[1], "delete", "")], ONE_LABEL, "line 3 .*unknown action 'delete'"),
        ([(DIGESTS[0], "split:all", "")], ONE_LABEL, "line 2 .*unknown action 'split:all'"),
        ([(DIGESTS[0], "relabel", "")], ONE_LABEL, "line 2 .*needs the new class"),
        ([(DIGESTS[0], "relabel", "a, b")], SEVERAL_LABELS, r"line 2 .*suggested must be \[\"one class\"\]"),
        ([("abc", "drop", "")], ONE_LABEL, "line 2 .*its digest is none: 'abc'"),
        ([(DIGESTS[0], "relabel", "b"), (DIGESTS[0], "relabel", "c")], ONE_LABEL, "line 3 .*to b"),
        ([(DIGESTS[0], "split:val", ""), (DIGESTS[0], "split:test", "")], ONE_LABEL, "line 3 .*to val"),
        ([(DIGESTS[0], "", "b")], ONE_LABEL, "has no action"),
    ],
    ids=str,
)
def test_corrections__what_cannot_be_done_is_refused_with_its_line(tmp_path, lines, task, complaint):
    path = write(tmp_path / "issues.csv", *lines)
    with pytest.raises(DataError, match=complaint):
        Corrections.read(path, task)


def test_corrections__another_file_is_refused(tmp_path):
    (tmp_path / "other.csv").write_text("path,label\na.png,a\n")
    with pytest.raises(DataError, match="lacks the column suggested"):
        Corrections.read(tmp_path / "other.csv", ONE_LABEL)
    with pytest.raises(DataError, match=r"Cannot read .*No such file"):
        Corrections.read(tmp_path / "none.csv", ONE_LABEL)


def test_corrections__what_they_decide_is_what_counts_of_them(tmp_path):
    one = Corrections.read(write(tmp_path / "a.csv", (DIGESTS[0], "drop", "")), ONE_LABEL)
    same = Corrections.read(
        write(tmp_path / "b.csv", (DIGESTS[1], "", ""), (DIGESTS[0], "drop", "b")), ONE_LABEL
    )
    other = Corrections.read(write(tmp_path / "c.csv", (DIGESTS[1], "drop", "")), ONE_LABEL)
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-16")])
def test_corrections__as_a_spreadsheet_has_saved_them(tmp_path, delimiter, encoding):
    lines = [(DIGESTS[0], "relabel", '["ä;b", "c,d"]'), (DIGESTS[1], "drop", "")]
    path = write(tmp_path / "issues.csv", *lines)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [*csv.reader(file)]
    with (tmp_path / "saved.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    found = Corrections.read(tmp_path / "saved.csv", SEVERAL_LABELS)
    assert found.of == Corrections.read(path, SEVERAL_LABELS).of and len(found.of) == 2


def test_corrections__a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "issues.csv").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match=r"no table of issues: .*Save it as CSV in UTF-8"):
        Corrections.read(tmp_path / "issues.csv", ONE_LABEL)


def test_corrections__that_leave_no_image_of_a_class_say_so(tmp_path):
    every_a = [(digest, "drop", "") for digest in DIGESTS[1:]]
    corrections = Corrections.read(write(tmp_path / "issues.csv", *every_a), ONE_LABEL)
    assert "No image is left" not in corrections.told(SAMPLES)
    every_a.append((DIGESTS[0], "relabel", "b"))
    corrections = Corrections.read(write(tmp_path / "more.csv", *every_a), ONE_LABEL)
    assert corrections.told(SAMPLES).endswith("No image is left of a: the classifier will not know it")

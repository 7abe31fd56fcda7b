"""The command: what it prints and where it stops."""

import inspect
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastcls.cli.split_data import split_data
from fastcls.data.writers.split import write_split
from fastcls.errors import DataError, FastclsError
from fastcls.specs import SplitSpec


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("rose", "total", "two\nlines"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(10):
            (tmp_path / "photos" / name / f"{index}.jpg").write_bytes(f"{name} {index // 2}".encode())
    (tmp_path / "photos/rose/notes.txt").touch()
    return tmp_path / "photos"


def invoke(*arguments: object) -> str:
    return CliRunner().invoke(split_data, [str(a) for a in arguments], catch_exceptions=False).output


def test_split_data__prints_counts_and_the_next_step(photos, tmp_path):
    out = tmp_path / "my data"
    assert invoke(photos, "--out", out).splitlines() == [
        "class           train      val     test    total",
        "rose                6        2        2       10",
        "total               6        2        2       10",
        r"'two\nlines'        6        2        2       10",
        "total              18        6        6       30",
        "",
        "Images added: 30, already there: 0",
        "30 images are kept in one split with others, because they are identical or of one group",
        "Files left out (hidden, not an image, or not in a class folder): 1",
        f"Next: fastcls extract '{out}' --base BASE",
    ]
    (photos / "rose/0.jpg").unlink()
    again = invoke(photos, "--out", out, "--mode", "copy")
    assert "Images added: 0, already there: 30" in again
    assert "No longer in the source, but kept: 1" in again


def state(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def make_other(photos: Path) -> Path:
    """A table of several labels per image, and of groups."""
    rows = [
        f"{path},{path.parent.name!r}|{path.stem},{path.stem}" for path in sorted(photos.glob("[rt]o*/*.jpg"))
    ]
    (photos.parent / "table.csv").write_text("\n".join(["path,labels,group", *rows]))
    return photos.parent / "table.csv"


def test_split_data__of_very_many_classes_prints_the_first(tmp_path):
    for place in range(102):
        (tmp_path / "photos" / f"c{place:03}").mkdir(parents=True)
        for index in range(3):
            (tmp_path / "photos" / f"c{place:03}" / f"{index}.jpg").write_bytes(f"{place} {index}".encode())
    lines = invoke(tmp_path / "photos", "--out", tmp_path / "out").splitlines()
    assert [line.split() for line in lines[100:103]] == [
        ["c099", "1", "1", "1", "3"],
        ["and", "2", "more", "classes"],
        ["total", "102", "102", "102", "306"],
    ]


def test_split_data__names_a_few_of_very_many_classes_and_no_name_widens_the_table(tmp_path):
    for name in ("x" * 200, *(f"c{place:03}" for place in range(99))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "0.jpg").write_bytes(name.encode())
    with pytest.raises(DataError, match=r"'c009' \(images: 1, separable: 1\) and 90 more\.") as refused:
        invoke(tmp_path / "photos", "--out", tmp_path / "out")
    assert len(str(refused.value)) < 800
    told = invoke(tmp_path / "photos", "--out", tmp_path / "out", "--allow-small")
    assert "\n" + "x" * 39 + "…        1        1\n" in told


@pytest.mark.parametrize("several", [False, True])
def test_split_data__a_dry_run_says_what_the_command_does(photos, tmp_path, several):
    options = ("--label-separator", "|", "--allow-small") if several else ("--mode", "copy")
    source, out = make_other(photos) if several else photos, tmp_path / "new" / "out"
    for written in ((20, 0), (0, 20)) if several else ((30, 0), (0, 30)):
        before = state(tmp_path)
        planned = invoke(source, "--out", out, *options, "--dry-run").splitlines()
        assert state(tmp_path) == before
        images = f"{written[0]} images (--mode copy), " if written[0] and not several else ""
        assert planned.pop() == f"Would write to {out}: {images}split.csv. Nothing was written"
        assert f"Images to add: {written[0]}, already there: {written[1]}" in "\n".join(planned)
        done = invoke(source, "--out", out, *options).splitlines()
        assert done.pop().startswith("Next: ")
        assert done == [line.replace("Images to add", "Images added") for line in planned]
    seed = invoke(source, "--out", out.parent / "other", *options, "--seed", 1, "--dry-run")
    assert "Nothing was written" in seed and not (out.parent / "other").exists()


def refused(*arguments: object) -> str:
    error = CliRunner().invoke(split_data, [str(a) for a in arguments]).exception
    assert isinstance(error, FastclsError)
    return str(error)


def test_split_data__a_dry_run_refuses_what_the_command_refuses(photos, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").touch()
    (tmp_path / "lone/rose").mkdir(parents=True)
    (tmp_path / "lone/tulip").mkdir()
    for name in ("rose", "tulip"):
        (tmp_path / "lone" / name / "1.jpg").write_text(name)
    for source, out, why in (
        (photos, tmp_path / "file", "is a file"),
        (photos, tmp_path / "file/out", "is not a folder"),
        (photos, tmp_path / "taken", "was not made by split-data"),
        (photos, photos / "out", "lies in the source"),
        (tmp_path / "lone", tmp_path / "out", "Classes without an image in each of train, val, test"),
    ):
        before = state(tmp_path)
        planned = refused(source, "--out", out, "--dry-run")
        assert state(tmp_path) == before
        assert why in planned and planned == refused(source, "--out", out)


def test_split_data__leaves_errors_to_the_main_command(tmp_path):
    result = CliRunner().invoke(split_data, [str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, DataError)


def test_split_data__has_the_defaults_of_the_library():
    defaults = {option.name: option.default for option in split_data.params}
    assert SplitSpec(defaults["val"], defaults["test"], defaults["seed"]) == SplitSpec()
    assert defaults["mode"] == inspect.signature(write_split).parameters["mode"].default

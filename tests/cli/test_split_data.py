"""The command: what it prints and where it stops."""

import inspect
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastcls.cli.split_data import split_data
from fastcls.data.writers.split import write_split
from fastcls.errors import DataError
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
        "Kept in one split (identical, or same group): 30",
        "Files left out (hidden, not an image, or not in a class folder): 1",
        f"Next: fastcls extract '{out}' --base BASE",
    ]
    (photos / "rose/0.jpg").unlink()
    again = invoke(photos, "--out", out, "--mode", "copy")
    assert "Images added: 0, already there: 30" in again
    assert "No longer in the source, but kept: 1" in again


def test_split_data__leaves_errors_to_the_main_command(tmp_path):
    result = CliRunner().invoke(split_data, [str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, DataError)


def test_split_data__has_the_defaults_of_the_library():
    defaults = {option.name: option.default for option in split_data.params}
    assert SplitSpec(defaults["val"], defaults["test"], defaults["seed"]) == SplitSpec()
    assert defaults["mode"] == inspect.signature(write_split).parameters["mode"].default

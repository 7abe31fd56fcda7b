"""What is added to zip archives, and how it is read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from fastcls import archives


@pytest.fixture
def made(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "made.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("small.json", '{"a": 1}')
        archive.writestr("large.json", "[" + "1," * 100 + "1]")
    return tmp_path / "made.keras"


def test_read_json__refuses_what_unpacks_to_more_than_is_meant(made: Path, monkeypatch) -> None:
    monkeypatch.setattr(archives, "_MOST_BYTES", 100)
    with zipfile.ZipFile(made) as archive:
        assert archives.read_json(archive, "small.json") == {"a": 1}
        with pytest.raises(ValueError, match="too large"):
            archives.read_json(archive, "large.json")


def test_extended__adds_to_what_is_there(made: Path) -> None:
    with archives.extended(made) as archive:
        archive.writestr("more", "text")
    assert zipfile.ZipFile(made).namelist() == ["small.json", "large.json", "more"]


def test_extended__a_disk_that_cannot_be_read_loses_no_members(made: Path, monkeypatch) -> None:
    whole = made.read_bytes()

    def fail(_: io.IOBase) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(zipfile, "_EndRecData", fail)
    with pytest.raises(OSError, match=r"made\.keras"), archives.extended(made) as archive:
        archive.writestr("more", "text")
    assert made.read_bytes()[: len(whole)] == whole

"""Files that appear whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastcls import files
from fastcls.errors import OptionError


def test_atomic_path__keeps_the_old_file_when_writing_fails(tmp_path: Path):
    place = tmp_path / "table.csv"
    files.write_text(place, "old")
    with pytest.raises(RuntimeError), files.atomic_path(place) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert place.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_resumable_folder__is_there_again_if_it_is_worth_going_on(tmp_path: Path):
    path, working = tmp_path / "run", tmp_path / "run.unfinished"

    def is_worth(folder: Path) -> bool:
        return (folder / "state").exists()

    for name, kept in (("log", set()), ("state", {"state"}), ("log", {"state", "log"})):
        with pytest.raises(RuntimeError), files.resumable_folder(path, is_worth) as folder:
            (folder / name).touch()
            raise RuntimeError
        assert {entry.name for entry in working.glob("[!.]*")} == kept
        assert not path.exists()
    with files.resumable_folder(path, is_worth, restart=True) as folder:
        (folder / "result").touch()
    assert [entry.name for entry in path.iterdir()] == ["result"] and not working.exists()


def test_resumable_folder__a_users_own_is_not_touched(tmp_path: Path):
    own = tmp_path / "run.unfinished"
    own.mkdir()
    (own / "thesis.txt").touch()
    with (
        pytest.raises(OptionError, match="Move it away"),
        files.resumable_folder(tmp_path / "run", lambda folder: False, restart=True),
    ):
        pass
    assert [entry.name for entry in own.iterdir()] == ["thesis.txt"]
    (tmp_path / "other.unfinished").write_text("mine")
    with (
        pytest.raises(OptionError, match="Move it away"),
        files.resumable_folder(tmp_path / "other", lambda folder: False),
    ):
        pass
    assert (tmp_path / "other.unfinished").read_text() == "mine"


def test_atomic_folder__appears_whole_or_not_at_all(tmp_path: Path):
    with pytest.raises(RuntimeError), files.atomic_folder(tmp_path / "run") as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with files.atomic_folder(tmp_path / "run") as folder:
        (folder / "whole").write_text("")
        assert not (tmp_path / "run").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["whole"]


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path):
    code = "import os, signal, sys; from pathlib import Path; from fastcls import files\n"
    code += f"with files.atomic_folder(Path({str(tmp_path / 'run')!r})) as folder:\n"
    code += "    (folder / 'half').write_text(''); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code], check=False)
    mine = files.temporary_sibling(tmp_path / "mine.h5")
    mine.write_text("")
    assert len(list(tmp_path.iterdir())) == 2
    files.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_json_digest__does_not_depend_on_the_order_of_keys():
    assert files.json_digest({"a": 1, "b": [2]}) == files.json_digest({"b": [2], "a": 1})
    assert files.json_digest({"a": 1}) != files.json_digest({"a": 2})

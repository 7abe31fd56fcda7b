"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastcls import files, unfinished
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
        with pytest.raises(RuntimeError), unfinished.resumable_folder(path, is_worth) as folder:
            (folder / name).touch()
            raise RuntimeError
        assert {entry.name for entry in working.glob("[!.]*")} == kept
        assert not path.exists()
    with unfinished.resumable_folder(path, is_worth, restart=True) as folder:
        (folder / "result").touch()
    assert [entry.name for entry in path.iterdir()] == ["result"] and not working.exists()


def test_resumable_folder__a_users_own_is_not_touched(tmp_path: Path):
    own = tmp_path / "run.unfinished"
    own.mkdir()
    (own / "thesis.txt").touch()
    with (
        pytest.raises(OptionError, match="Move it, or"),
        unfinished.resumable_folder(tmp_path / "run", lambda folder: False, restart=True),
    ):
        pass
    assert [entry.name for entry in own.iterdir()] == ["thesis.txt"]
    (tmp_path / "other.unfinished").write_text("mine")
    with (
        pytest.raises(OptionError, match="Move it, or"),
        unfinished.resumable_folder(tmp_path / "other", lambda folder: False),
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


def start(code: str) -> subprocess.Popen[str]:
    """A Python process that has printed a line, so that it is where the test wants it."""
    head = "import os, signal, sys, time; from pathlib import Path; from fastcls import files, unfinished\n"
    process = subprocess.Popen([sys.executable, "-c", head + code], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline()
    return process


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path):
    place = tmp_path / "run"
    code = f"with files.atomic_folder(Path({str(place)!r})) as folder:\n"
    code += "    (folder / 'half').touch(); print('ready', flush=True); time.sleep(60)"
    with start(code) as process, files.atomic_path(tmp_path / "mine.h5") as mine:
        mine.touch()
        files.remove_leftovers(tmp_path)
        assert mine.exists() and len(list(tmp_path.iterdir())) == 2
        process.kill()
        process.wait()
        files.remove_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == [mine.parent]
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.h5"]


def test_leftovers__where_there_are_no_locks_nothing_is_taken_away(tmp_path: Path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    with files.atomic_path(tmp_path / "file") as mine:
        mine.touch()
        files.remove_leftovers(tmp_path)
        assert mine.exists()
    with files.locked(tmp_path, "busy"):
        assert (tmp_path / "file").exists()


def test_leftovers__what_users_call_similarly_stays(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".tmp-mine").mkdir()
    (tmp_path / ".tmp-fastcls-file").touch()
    (tmp_path / ".tmp-fastcls-link").symlink_to("elsewhere")
    before = sorted(tmp_path.iterdir())
    files.remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_temporary_folder__a_cleaner_may_come_before_its_lock_is_taken(tmp_path: Path, monkeypatch):
    real, cleaned = files._lock, []

    def slow(descriptor: int, *, wait: bool) -> None:
        if not cleaned:
            cleaned.extend(tmp_path.iterdir())
            files.remove_leftovers(tmp_path)
        real(descriptor, wait=wait)

    monkeypatch.setattr(files, "_lock", slow)
    with files.temporary_folder(tmp_path) as folder:
        assert cleaned and folder.is_dir() and folder not in cleaned
        files.remove_leftovers(tmp_path)
        assert folder.is_dir()


@pytest.mark.parametrize("name", ["x" * 255, "dot." + "y" * 247 + ".jpg", "\N{SNOWMAN}" * 85])
def test_atomic_path__takes_every_legal_name(tmp_path: Path, name: str):
    files.write_text(tmp_path / name, "whole")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(name, "whole")]


def test_locked__keeps_others_out_until_its_process_ends(tmp_path: Path, caplog):
    code = f"with files.locked(Path({str(tmp_path)!r}), ''): print('ready', flush=True); time.sleep(60)"
    with start(code) as process:
        with pytest.raises(OptionError, match="busy"), files.locked(tmp_path, "busy"):
            pass
        threading.Timer(0.3, process.kill).start()
        with files.locked(tmp_path, "wait a little", wait=True):
            assert "wait a little" in caplog.text
    with files.locked(tmp_path, "busy"):
        pass


def test_make_folder__another_process_removes_it_meanwhile(tmp_path: Path, monkeypatch):
    real, times = os.mkdir, []

    def mkdir(path, mode=0o777):
        times.append(path)
        if len(times) < 4:
            raise FileExistsError(errno.EEXIST, "File exists")  # and it is gone when somebody looks
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    files.make_folder(tmp_path / "folder")
    assert (tmp_path / "folder").is_dir() and len(times) == 4


def test_make_folder__in_the_place_of_a_file_or_a_dead_link_fails(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            files.make_folder(tmp_path / name)


def test_resumable_folder__another_process_may_have_finished_it_meanwhile(tmp_path: Path):
    with unfinished.resumable_folder(tmp_path / "run", lambda folder: False) as folder:
        (folder / "result").touch()
    with (
        pytest.raises(OptionError, match="already exists"),
        unfinished.resumable_folder(tmp_path / "run", lambda folder: False),
    ):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_resumable_folder__loses_what_a_killed_process_left_in_any_folder_of_it(tmp_path: Path):
    code = f"with unfinished.resumable_folder(Path({str(tmp_path / 'run')!r}), Path.exists) as folder:\n"
    code += "    with files.atomic_path(folder / 'checkpoints/epoch-0001.keras') as temporary:\n"
    code += "        temporary.touch(); print('ready', flush=True); time.sleep(60)"
    with start(code) as process:
        process.kill()
    assert list((tmp_path / "run.unfinished/checkpoints").glob(".tmp-*"))
    with unfinished.resumable_folder(tmp_path / "run", Path.exists):
        pass
    assert [entry.name for entry in (tmp_path / "run").rglob("*")] == ["checkpoints"]


def test_open_file__takes_regular_files_alone_and_never_waits(tmp_path: Path, monkeypatch):
    (tmp_path / "file").write_bytes(b"whole")
    (tmp_path / "link").symlink_to("file")
    with files.open_file(tmp_path / "link") as file:
        assert file.read() == b"whole"
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        server.bind("socket")
    for name in ("pipe", "socket"):
        with pytest.raises(OSError, match="not a regular file"):
            files.open_file(tmp_path / name)
        with pytest.raises(OSError, match="not a regular file"):
            files.file_digest(tmp_path / name)


def test_json_digest__does_not_depend_on_the_order_of_keys():
    assert files.json_digest({"a": 1, "b": [2]}) == files.json_digest({"b": [2], "a": 1})
    assert files.json_digest({"a": 1}) != files.json_digest({"a": 2})

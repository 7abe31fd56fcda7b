import os
import signal
import subprocess
import sys
import time

import pytest

from fastcls import files, home
from fastcls.home import find, kept

KEY = "0123"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An empty home."""
    monkeypatch.setenv(home.VARIABLE, str(tmp_path / "home"))
    monkeypatch.setattr(home, "_of_process", lambda: tmp_path / "of this process")
    home._warn.cache_clear()
    return tmp_path / "home"


class Maker:
    """Makes a thing of two files, and counts how often."""

    def __init__(self, text="content"):
        self.text, self.calls = text, 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "a.txt").write_text(self.text)
        (folder / "inside").mkdir()
        (folder / "inside/b.txt").write_text(self.text)


def content(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.txt")}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_kept__makes_a_thing_once_in_a_folder_of_the_user_alone(own):
    make = Maker()
    assert find("thing", KEY) is None
    place = kept("thing", KEY, make)
    assert kept("thing", KEY, make) == find("thing", KEY) == place
    assert (make.calls, content(place)) == (1, {"a.txt", "inside/b.txt"})
    assert place.is_relative_to(own)
    assert own.stat().st_mode & 0o777 == 0o700
    kept("thing", "another", make)
    assert make.calls == 2


@pytest.mark.parametrize("harm", ["change", "lose", "add", "digests"])
def test_kept__makes_again_what_is_damaged(own, harm, caplog):
    make = Maker()
    place = kept("thing", KEY, make)
    if harm == "lose":
        (place / "inside/b.txt").unlink()
    else:
        name = {"change": "inside/b.txt", "add": "new.txt", "digests": "home.json"}[harm]
        (place / name).write_text("other")
    assert find("thing", KEY) is None
    assert kept("thing", KEY, make) == find("thing", KEY) == place
    assert make.calls == 2
    assert "is damaged" in caplog.text


def test_kept__leaves_nothing_of_a_making_that_fails(own):
    def fail(folder):
        (folder / "half.txt").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept("thing", KEY, fail)
    assert list((own / "thing").iterdir()) == []


KILLED = """
import os, signal, sys
from fastcls import files, home
point = sys.argv[1]
def kill(*_, **__): os.kill(os.getpid(), signal.SIGKILL)
def make(folder):
    (folder / "a.txt").write_text("content")
    if point == "making": kill()
if point == "digests": files.write_checked_json = kill
if point == "cleaning": home.MOST_BYTES, home._RECENT_S = 0, -60
def clean(home_folder):
    files.shutil.rmtree = kill
    remove_oldest(home_folder)
remove_oldest = home._remove_oldest
if point == "cleaning": home._remove_oldest = clean
home.kept("thing", "0123", make)
"""


@pytest.mark.parametrize("point", ["making", "digests", "cleaning"])
def test_kept__a_kill_leaves_nothing_half_made(own, point):
    ended = subprocess.run([sys.executable, "-c", KILLED, point], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    make = Maker()
    assert content(kept("thing", KEY, make)) == {"a.txt", "inside/b.txt"}
    assert make.calls == 1
    kept("thing", "another", make)
    home._remove(own / "thing/another")
    left = [path.name for path in own.rglob(f"{files.TEMPORARY}*")]
    assert left == []


MADE_TOGETHER = """
import sys, time
from pathlib import Path
from fastcls import home
def make(folder):
    with Path(sys.argv[1]).open("a") as made: made.write("made\\n")
    time.sleep(0.5)
    (folder / "a.txt").write_text("content")
print(home.kept("thing", "0123", make))
"""


def test_kept__a_second_process_waits_for_the_first(own, tmp_path):
    command = [sys.executable, "-c", MADE_TOGETHER, str(tmp_path / "made")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = {process.communicate(timeout=60)[0] for process in both}
    assert told == {f"{find('thing', KEY)}\n"}
    assert (tmp_path / "made").read_text() == "made\n"


def test_kept__removes_what_was_not_used_for_longest(own, monkeypatch):
    monkeypatch.setattr(home, "MOST_BYTES", 4000)
    make = Maker("x" * 500)
    for age, key in enumerate(["recent", "used", "old"]):
        kept("thing", key, make)
        os.utime(own / "thing" / key, (time.time() - 2000 * age,) * 2)
    (own / home.MIRRORS / "s3").mkdir(parents=True)
    (own / home.MIRRORS / "s3" / "shard.h5").write_bytes(bytes(9000))
    os.utime(own / home.MIRRORS / "s3", (0, 0))
    kept("thing", "new", make)
    assert names(own / "thing") == ["new", "recent", "used"] and names(own / home.MIRRORS) == ["s3"]
    monkeypatch.setattr(home, "MOST_BYTES", 0)
    find("thing", "used")
    kept("thing", "newest", make)
    assert names(own / "thing") == ["new", "newest", "recent", "used"]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder__is_not_one_that_others_can_write_to(own, mode, caplog):
    own.mkdir()
    own.chmod(mode)
    assert home.folder() is home.folder() is None
    assert caplog.text.count(f"{own} is not used, as others can write to it. Run: chmod go-w {own}") == 1
    make = Maker()
    places = {kept("thing", KEY, make) for _ in range(2)}
    assert make.calls == 1
    assert find("thing", KEY) in places
    assert list(own.iterdir()) == []


def test_folder__is_not_one_of_another_user(own, monkeypatch, caplog):
    own.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: own.stat().st_uid + 1)
    assert home.folder() is None
    assert "is not used" in caplog.text


def test_folder__a_file_is_refused_in_words(own, caplog):
    own.write_text("")
    assert home.folder() is None
    assert (
        f"FASTCLS_HOME={own} is not used: it is not a folder. Set it to a folder of your own" in caplog.text
    )


def test_folder__without_a_variable_is_in_the_cache_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv(home.VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    assert home.folder() == tmp_path / usual / "fastcls"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert home.folder() == tmp_path / "xdg/fastcls"
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    assert home.folder() is None


def test_kept__a_read_only_home_serves_what_it_has(own, mount):
    mount(own, "tmpfs", "size=1m,mode=700")
    make = Maker()
    place = kept("thing", KEY, make)
    mount(own, "tmpfs", "remount,ro")
    assert kept("thing", KEY, make) == find("thing", KEY) == place
    other = kept("thing", "other", make)
    assert content(other) == content(place)
    assert (make.calls, other.is_relative_to(own)) == (2, False)


def test_kept__goes_on_where_the_disk_is_full(own, mount):
    mount(own, "tmpfs", "size=16k,mode=700")
    place = kept("thing", KEY, Maker("x" * 100_000))
    assert content(place) == {"a.txt", "inside/b.txt"}
    assert not place.is_relative_to(own)
    assert not list(own.rglob("*.txt"))

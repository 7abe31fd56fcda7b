"""`fastcls cache`: what a user sees of it. tests/caching has what it does."""

import errno
import json
import shutil

import pytest
from caching_support import bytes_below, make_cache, make_run, make_sets, rows_in, tables_in

from fastcls import files, storage
from fastcls.cache.store import Cache
from fastcls.caching.contents import Contents


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of three data sets, below the current folder."""
    monkeypatch.chdir(tmp_path)
    return make_cache(tmp_path / "caches", 0, make_sets(0))


@pytest.fixture
def damaged(cache):
    """The same with a shard that lacks its end."""
    path = min(cache.shards_folder.iterdir())
    path.write_bytes(path.read_bytes()[:-700])
    return path


def test_ls__lists_caches_and_nothing_else(fastcls, cache, tmp_path):
    make_run(tmp_path / "run", [])
    result = fastcls("cache", "ls")
    head, line = result.out.splitlines()
    assert head.split()[:4] == ["cache", "changed", "size", "base"] and line.startswith("caches/resnet50")
    assert f" {len(rows_in(cache))} " in line and " 2x3 " in line and result.err == ""
    (told,) = (json.loads(each) for each in fastcls("cache", "ls", "--json", tmp_path).out.splitlines())
    assert (told["rows"], told["dtype"], told["state"]) == (len(rows_in(cache)), "float32", "complete")
    assert told["images"] == {name: len(rows) for name, rows in tables_in(cache).items()}
    cache.tail_path.unlink()
    assert "tail.keras missing" in fastcls("cache", "ls").err
    shutil.rmtree(cache.folder)
    assert fastcls("cache", "ls").out == "No caches found\n"
    assert fastcls("cache", "ls", "nowhere").code == 1


def test_ls__one_that_cannot_be_read_does_not_hide_the_others(fastcls, cache, tmp_path, monkeypatch):
    shutil.copytree(cache.folder, tmp_path / "caches" / "closed")
    look = Contents.of

    def refuse(folder):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied", str(folder / "shards"))
        return look(folder)

    monkeypatch.setattr(Contents, "of", refuse)
    result = fastcls("cache", "ls")
    assert len(result.out.splitlines()) == 3 and f" {len(rows_in(cache))} " in result.out
    assert result.err == "Damaged: caches/closed: caches/closed/shards: Permission denied\n"


def test_info__tells_what_made_a_cache_and_who_uses_it(fastcls, cache, tmp_path):
    make_run(tmp_path / "runs" / "one", [])
    out = fastcls("cache", "info", "caches").out
    for line in (
        "cut at add",
        "computed in float32",
        "Data set b: ",
        "3 views",
        "Run runs/one",
        "1 unreadable",
    ):
        assert line in out
    told = json.loads(fastcls("cache", "info", "caches", "--json").out)
    assert told["rows"] == len(rows_in(cache)) and told["runs"] == ["runs/one"]


def test_verify_and_repair__name_what_is_damaged(fastcls, cache, damaged):
    before = bytes_below(cache.folder)
    result = fastcls("cache", "verify", cache.folder, "caches")
    assert result.code == 1 and result.out.count("damaged file") == 2
    assert f"{damaged}: it is damaged: " in result.err and "fastcls cache repair" in result.err
    assert bytes_below(cache.folder) == before
    result = fastcls("cache", "repair", "caches")
    assert result.code == 0 and str(damaged) in result.out.replace("caches/", f"{cache.folder.parent}/", 1)
    assert not damaged.exists() and "nothing is damaged" in fastcls("cache", "repair", "caches").out
    result = fastcls("cache", "verify", "caches")
    assert result.code == 1 and "The same fastcls extract forwards these" in result.err
    whole = make_cache(cache.folder.parents[1] / "whole", 1, make_sets(1))
    (whole.folder / "notes.txt").write_text("mine")
    result = fastcls("cache", "verify", "whole")
    assert result.code == 0 and result.out.endswith(": whole\n") and "notes.txt" in result.err


def test_verify__says_of_a_cache_at_a_url_what_can_be_done_there(fastcls, cache, damaged):
    url = "memory://verified/caches"
    for path in (path for path in cache.folder.rglob("*") if path.is_file()):
        storage.send(path, f"{url}/{cache.folder.name}/{path.relative_to(cache.folder).as_posix()}")
    result = fastcls("cache", "verify", url)
    shard = f"{url}/{cache.folder.name}/shards/{damaged.name}"
    (line,) = (line for line in result.err.splitlines() if line.startswith(shard))
    assert line.startswith(f"{shard}: it is damaged: ") and line.endswith("makes again what it held")
    assert ". Remove this object; " in line and "cache repair" not in result.err and result.code == 1


def test_repair__leaves_tables_to_the_extraction(fastcls, cache):
    table = cache.folder / "samples" / "a.csv"
    table.write_text("damaged")
    result = fastcls("cache", "repair", cache.folder)
    assert result.code == 1 and f"Left {table}: it is damaged" in result.out and table.exists()
    assert result.out.endswith("The same fastcls extract makes it again\n")


def test_gc__shows_before_it_acts(fastcls, cache, tmp_path):
    before = rows_in(cache)
    kept = [*make_sets(0)[0].images.values()]
    make_run(tmp_path / "run", kept)
    result = fastcls("cache", "gc", "caches", "--drop", "a", "--drop", "b")
    assert result.out.startswith("Would remove ") and "Nothing was removed" in result.out
    assert "Kept for 1 run below ." in result.out and rows_in(cache) == before
    assert fastcls("cache", "gc", "caches", "--drop", "a", "--drop", "b", "--yes").out.startswith("Removed ")
    assert {*kept} <= rows_in(cache).keys() < before.keys() and [*tables_in(cache)] == ["c"]
    result = fastcls("cache", "gc", "caches", "--drop", "d", "--yes")
    assert result.code == 1 and result.err.endswith("has no data set 'd'. It has: c\n")


def test_merge__tells_what_came(fastcls, cache, tmp_path):
    other = make_cache(tmp_path / "other", 5, make_sets(5)[1:])
    result = fastcls("cache", "merge", "caches", "other")
    assert result.code == 0 and f"other/{other.folder.name}: " in result.out
    assert "data set b, as b-" in result.out and "another data set here" in result.out
    assert rows_in(Cache.find(tmp_path / "caches")).keys() >= rows_in(other).keys()
    assert "0 new rows in 0 shards" in fastcls("cache", "merge", "caches", "other").out
    assert fastcls("cache", "merge", "caches", "caches").code == 1


def test_merge__names_the_full_disk(fastcls, cache, tmp_path, monkeypatch):
    other = make_cache(tmp_path / "other", 1, make_sets(1))

    def copy(source, place):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(place))

    monkeypatch.setattr(files, "link_or_copy", copy)
    result = fastcls("cache", "merge", "caches", other.folder)
    assert result.code == 1 and result.err.startswith("Error: cannot write or read caches/")


def test_export__never_replaces_a_file(fastcls, cache):
    assert fastcls("cache", "export", "caches", "out", "--name", "c").out.endswith("left out\n")
    result = fastcls("cache", "export", "caches", "out", "--name", "c")
    assert result.code == 1 and "out already exists" in result.err
    result = fastcls("cache", "export", "caches", "other", "--name", "a", "--split", "tset")
    assert result.code == 1 and "It has ['test', 'train', 'val']" in result.err


@pytest.mark.parametrize("command", ["info", "verify", "repair", "gc", "merge x", "export x"])
def test_what_is_no_cache_is_refused_in_one_line(fastcls, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    name, *more = command.split()
    result = fastcls("cache", name, "nowhere", *more)
    assert result.code == 1 and result.err.startswith("Error: No bottleneck cache in nowhere")
    assert len(result.err.splitlines()) == 1 and [*tmp_path.iterdir()] == []

"""What the tools for caches say and do where something is given, or happens, that is not meant."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from caching_support import MANIFEST, bytes_below, make_cache, make_run, make_sets, rows_in

from fastcls import files, runs
from fastcls.cache import shard
from fastcls.cache.shard_copies import sound_rows
from fastcls.cache.store import Cache
from fastcls.caching import merger, repairer
from fastcls.caching.collector import gc_cache, plan_gc
from fastcls.caching.describer import cache_info, list_caches
from fastcls.caching.exporter import export_cache
from fastcls.caching.merger import merge_caches
from fastcls.caching.repairer import repair_cache
from fastcls.caching.verifier import verify_cache
from fastcls.errors import CacheError, OptionError

TOOLS = {
    "ls": lambda place, cache: [*list_caches(place)],
    "info": lambda place, cache: cache_info(place),
    "verify": lambda place, cache: verify_cache(place),
    "repair": lambda place, cache: repair_cache(place),
    "gc": lambda place, cache: gc_cache(place, runs=[]),
    "plan of gc": lambda place, cache: plan_gc(place, runs=[]),
    "merge into": lambda place, cache: merge_caches(place, [cache]),
    "merge from": lambda place, cache: merge_caches(cache, [place]),
    "export": lambda place, cache: export_cache(place, Path(cache.folder).parent / "out", name="a"),
}


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "caches", 0, make_sets(0))


def shards_of(cache):
    return sorted(cache.shards_folder.glob("*.h5"))


@pytest.mark.parametrize("tool", TOOLS)
def test_a_run_is_refused_with_the_name_of_its_cache(tmp_path, cache, tool):
    run, before = make_run(tmp_path / "run", []), bytes_below(cache.folder)
    record = files.read_checked_json(run / runs.RECORD)
    places = runs.seen_from(run, cache.folder)
    files.write_checked_json(run / runs.RECORD, {**record, "cache_folders": places})
    with pytest.raises(OptionError, match=rf"{run} is a run\. Give its cache: {cache.folder}$"):
        TOOLS[tool](run, cache)
    files.write_checked_json(run / runs.RECORD, {**record, "cache_folders": ["../gone"]})
    with pytest.raises(OptionError, match=rf"no longer where it was: {tmp_path / 'gone'}$"):
        TOOLS[tool](run, cache)
    assert bytes_below(cache.folder) == before


@pytest.mark.parametrize("tool", TOOLS)
def test_a_cache_that_holds_nothing_yet_is_one(tmp_path, cache, tool):
    empty, before = Cache.create(tmp_path / "empty", MANIFEST), rows_in(cache)
    if tool == "export":
        with pytest.raises(CacheError, match="holds no samples"):
            TOOLS[tool](empty.folder, cache)
    else:
        TOOLS[tool](empty.folder, cache)
    assert rows_in(cache) == before
    assert rows_in(empty, once=True) == (before if tool == "merge into" else {})


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_a_shard_that_cannot_be_read_now_is_not_damaged(cache, monkeypatch, number):
    path, before = shards_of(cache)[1], bytes_below(cache.folder)
    opened = h5py.File

    def refused(place, *arguments, **options):
        if Path(place) == path:
            raise OSError(number, "Unable to synchronously open file")
        return opened(place, *arguments, **options)

    monkeypatch.setattr(h5py, "File", refused)
    for act in (repair_cache, lambda cache: cache.index(), lambda cache: gc_cache(cache, runs=[], drop="a")):
        with pytest.raises(OSError, match=path.name) as caught:
            act(cache)
        assert (caught.value.errno, caught.value.filename) == (number, str(path))
    (found,) = verify_cache(cache)
    assert [damage.path for damage in found.damages] == [path]
    monkeypatch.undo()
    lease = {str(cache.folder / ".lease")}
    assert {name: told for name, told in bytes_below(cache.folder).items() if name not in lease} == before


def test_merge__leaves_a_shard_of_damaged_structure_behind(tmp_path, cache, monkeypatch, caplog):
    other = make_cache(tmp_path / "other", 7, make_sets(7))
    rows, path = rows_in(other), shards_of(other)[0]
    lost = {key.decode() for key in shard.read_digests(path, MANIFEST.fingerprint).tolist()}

    def broken(place):
        if place == path:
            raise CacheError(f"{path} is damaged")
        return sound_rows(place)

    monkeypatch.setattr(merger, "sound_rows", broken)
    (done,) = merge_caches(cache, [other])
    assert done.damaged == len(lost) and str(path) in caplog.text
    assert {*rows} - {*rows_in(cache, once=True)} == lost


def test_repair__of_what_another_process_makes_again_meanwhile_removes_nothing(cache, monkeypatch):
    before, take = bytes_below(cache.folder), repairer.Leases.take
    whole = cache.trunk_path.read_bytes()
    cache.trunk_path.write_bytes(b"damaged")

    def waits(leases, folders):
        cache.trunk_path.write_bytes(whole)
        os.utime(cache.trunk_path, ns=(before[str(cache.trunk_path)][1],) * 2)
        return take(leases, folders)

    monkeypatch.setattr(repairer.Leases, "take", waits)
    assert repair_cache(cache)[0].repairs == ()
    (cache.folder / ".lease").unlink()
    assert bytes_below(cache.folder) == before


def test_repair__leaves_what_is_missing_to_the_extraction(cache):
    cache.tail_path.unlink()
    (done,) = repair_cache(cache)
    assert [damage.path for damage in done.left] == [cache.tail_path]
    assert str(done.repairs[0]).startswith(f"Left {cache.tail_path}: it is missing. The same fastcls extract")


def test_repair__two_at_once_leave_one_whole_cache(cache):
    before = rows_in(cache)
    count = 0
    for path in shards_of(cache):
        whole = path.read_bytes()
        row = next((own for own in before.values() if own in whole), None)  # none where it is compressed
        if row:
            count += 1
            path.write_bytes(whole.replace(row, bytes(len(row))))
    children = []
    for _ in range(2):
        child = os.fork()
        if not child:
            try:
                repair_cache(cache.folder)
            except BaseException as error:
                print(error, file=sys.stderr)
                os._exit(1)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    found = rows_in(cache, once=True)
    assert found.items() <= before.items() and len(found) == len(before) - count < len(before) - 1
    assert {each.kind for each in verify_cache(cache)[0].damages} == {"rows"}


def test_what_is_given_twice_or_in_the_wrong_place(tmp_path, cache, monkeypatch):
    garbage = plan_gc(cache, runs=[], drop=["a", "a"])
    assert [listing.name for listing in garbage.dropped] == ["a"]
    link = tmp_path / "link"
    link.symlink_to(cache.folder)
    for place in (cache.folder / "out", link / "shards" / "x.h5"):
        with pytest.raises(OptionError, match="is in the cache itself"):
            export_cache(cache, place, name="a")
    twice = shutil.copytree(cache.folder, tmp_path / "twice")
    assert [done.rows for done in merge_caches(cache, [twice, twice])] == [0, 0]
    monkeypatch.chdir(tmp_path / "twice" / "samples")
    for act in (cache_info, verify_cache):
        with pytest.raises(CacheError, match="No bottleneck cache in the current folder"):
            act(".")
    assert np.array_equal(Cache(twice, "a").read()[0], Cache(cache.folder, "a").read()[0])

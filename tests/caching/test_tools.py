"""Whatever a cache holds: damage is found, whole rows are kept, named rows stay, and merging is a union."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from pathlib import Path

import pytest
from caching_support import (
    MANIFEST,
    VIEWS,
    DataSet,
    bytes_below,
    fill,
    is_killed,
    make_cache,
    make_run,
    make_sets,
    rows_in,
    tables_in,
)

from fastcls import files
from fastcls.cache import kept_index, shard
from fastcls.cache.listing import Listing
from fastcls.cache.store import Cache
from fastcls.caching.collector import gc_cache, plan_gc
from fastcls.caching.contents import BEGUN
from fastcls.caching.merger import merge_caches
from fastcls.caching.repairer import repair_cache
from fastcls.caching.verifier import verify_cache
from fastcls.data.views import row_key
from fastcls.errors import CacheError, OptionError

SEEDS = [0, 1]


@pytest.fixture(autouse=True)
def unsynced(monkeypatch):
    """A process is killed here, not a machine: nothing has to reach the disk."""
    monkeypatch.setattr(files, "sync", lambda path: None)


@pytest.fixture(params=SEEDS)
def seed(request):
    return request.param


@pytest.fixture
def sets(seed):
    return make_sets(seed)


@pytest.fixture
def cache(tmp_path, seed, sets):
    return make_cache(tmp_path / "caches", seed, sets)


def everything(cache):
    """All that a cache means to whoever reads it; None where it cannot be read."""
    shard.forget_layouts()
    try:
        engine = [path.read_bytes() for path in sorted((cache.folder / "openvino").glob("trunk.*"))]
        models = [path.read_bytes() for path in cache.models]
        quality = [shard.read_quality(path).tolist() for path in sorted(cache.shards_folder.glob("*.h5"))]
        failed = [Listing(cache.folder, name).failures() for name in "abc"]
        read = Cache(cache.folder).manifest, rows_in(cache), tables_in(cache), failed
    except (CacheError, OSError, AssertionError):
        return None
    return *read, models, engine, str(quality)


def flip(path: Path, chance: random.Random) -> bytes:
    """Flip a bit of a file; returns what was there."""
    whole = path.read_bytes()
    place = chance.randrange(len(whole))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
    return whole


def test_verify__finds_every_flipped_bit_that_has_a_meaning(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_index, "LEAST_ROWS", 1)
    seed = 0
    cache = make_cache(tmp_path, seed, make_sets(seed, count=12))
    cache.index()
    chance, before = random.Random(seed), everything(cache)
    found = 0
    assert [each.is_whole for each in verify_cache(cache)] == [True]
    paths = sorted(path for path in cache.folder.rglob("*") if path.is_file() and path.stat().st_size)
    for path in paths:
        for _ in range(5):
            whole = flip(path, chance)
            (verified,) = verify_cache(cache.folder)
            named = [damage.path for damage in verified.damages]
            assert path in named or everything(cache) == before, path
            found += path in named
            path.write_bytes(whole)
        path.write_bytes(whole[: len(whole) // 2])
        assert path in [damage.path for damage in verify_cache(cache.folder)[0].damages], path
        path.unlink()
        assert verify_cache(cache.folder)[0].is_whole == (path.name == kept_index.FILE), path
        path.write_bytes(whole)
    assert verify_cache(cache.folder)[0].is_whole and found > 2 * len(paths)


def test_repair__loses_only_damaged_rows_and_an_extraction_makes_them_again(cache, seed, sets):
    chance, before = random.Random(seed + 10), rows_in(cache)
    measured = {key for each in sets for key in each.images.values()}
    for _ in range(3):
        shards = sorted(cache.shards_folder.glob("*.h5"))
        damaged = chance.sample(shards, 2)
        others = [cache.tail_path, cache.folder / "openvino/trunk.bin", cache.folder / "failures/c.csv"]
        whole = {path: flip(path, chance) for path in (*damaged, chance.choice(others))}
        rows = whole[damaged[0]]
        key = (
            next(key for key in before if before[key] in rows)
            if any(map(rows.count, before.values()))
            else ""
        )
        if key:  # one row alone
            damaged[0].write_bytes(rows.replace(before[key], bytes(len(before[key]))))
        (repaired,) = repair_cache(cache.folder)
        assert not repaired.left and {each.damage.path for each in repaired.repairs} <= {*whole}
        lost = {each.damage.path: each.lost for each in repaired.repairs}
        assert not key or lost[damaged[0]] == 1
        assert rows_in(cache, once=True).keys() <= before.keys()
        for path in others:
            if not path.exists() and path in whole:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(whole[path])
        if not (cache.folder / "openvino" / "trunk.xml").exists():
            shutil.rmtree(cache.folder / "openvino", ignore_errors=True)
            others[1] = cache.tail_path
            make_engine(cache)
        fill(cache, before, measured)
        assert verify_cache(cache.folder)[0].damages == () and rows_in(cache, once=True) == before
        assert not [path for path in cache.folder.rglob(f"{files.TEMPORARY}*")]


def make_engine(cache):
    from fastcls.cache import checked_files

    with files.atomic_folder(cache.folder / "openvino") as engine:
        for name in ("trunk.xml", "trunk.bin"):
            (engine / name).write_bytes(b"engine")
        checked_files.note_all(engine)


def named_by(sets, run):
    """The rows that tables and a run name, with all views that data sets have of these images."""
    images = {key for each in sets for key in each.images.values()} | {*run}
    return images | {row_key(key, VIEWS, number) for key in images for number in (1, 2)}


def leave(cache, sets, chance):
    """Remove some images from data sets; returns the data sets as they are then."""
    left = []
    for each in sets:
        kept = {path: own for path, own in each.images.items() if chance.random() < 0.6}
        left.append(DataSet(each.name, kept, each.views))
        left[-1].list_in(cache)
    return left


def test_gc__keeps_exactly_what_tables_and_runs_name(cache, seed, sets, tmp_path):
    chance, before = random.Random(seed), rows_in(cache)
    left = leave(cache, sets, chance)
    used = chance.sample([*sets[0].images.values()], 3)
    make_run(tmp_path / "runs" / "one", used)
    plan = plan_gc(cache, runs=[tmp_path])
    assert rows_in(cache) == before  # nothing was done
    done = gc_cache(cache, runs=[tmp_path])
    wanted = {key: row for key, row in before.items() if key in named_by(left, used)}
    assert rows_in(cache, once=True) == wanted and (done.rows, done.kept) == (
        len(before) - len(wanted),
        len(wanted),
    )
    assert (plan.rows, plan.bytes) == (done.rows, done.bytes) and done.rows > 2
    assert gc_cache(cache, runs=[tmp_path]).is_none and verify_cache(cache)[0].is_whole
    dropped = gc_cache(cache, runs=[], drop=["b", "a"])
    assert [*tables_in(cache)] == ["c"] and dropped.rows
    images = {key for key in left[2].images.values()}
    assert {*rows_in(cache)} & {k for s in sets for k in s.images.values()} == images & before.keys()


def test_gc__rows_of_a_dropped_data_set_go_though_they_were_not_measured(tmp_path, seed, sets):
    cache = Cache.create(tmp_path / "caches", MANIFEST)
    fill(cache, [key for each in sets for key in each.keys], set())
    for each in sets:
        each.list_in(cache)
    before = rows_in(cache)
    done = gc_cache(cache, runs=[], drop=["b", "c"])
    assert rows_in(cache).keys() == before.keys() & named_by(sets[:1], []) and done.rows and not done.unknown


def test_gc__rows_of_nobody_stay_unless_asked(cache, sets, seed):
    other = [row_key(key, VIEWS.__class__(2, "rotate=9", 0), 1) for key in sets[0].images.values()]
    before = rows_in(cache)
    fill(cache, other, set())
    assert gc_cache(cache, runs=[]).unknown == len({*other})
    assert rows_in(cache).keys() == {*before, *other}
    assert gc_cache(cache, runs=[], unknown=True).rows == len({*other}) and rows_in(cache) == before


def test_gc__removes_what_killed_processes_left(cache):
    before = bytes_below(cache.folder)
    (cache.shards_folder / f"{files.TEMPORARY}dead").mkdir()
    (cache.shards_folder / f"{files.TEMPORARY}dead" / "shard.h5").touch()
    board = cache.folder / "tasks"
    board.mkdir()
    (board / "1.beat").touch()
    with files.temporary_folder(cache.folder) as alive:
        gc_cache(cache, runs=[])
        assert alive.exists() and board.exists()  # machines may be at work
    for path in (board / "1.beat", board):
        os.utime(path, (0, 0))
    assert verify_cache(cache)[0].others == ()
    gc_cache(cache, runs=[])
    assert bytes_below(cache.folder).keys() - {str(cache.folder / ".lease")} == before.keys()
    assert not board.exists()


def test_gc__refuses_what_it_cannot_know(cache, tmp_path):
    before = rows_in(cache)
    with pytest.raises(CacheError, match=r"no data set 'd'\. It has: a, b, c"):
        gc_cache(cache, runs=[], drop=["d"])
    run = make_run(tmp_path / "run", [])
    (run / "images.csv").write_text("damaged")
    with pytest.raises(CacheError, match=r"run names: .*images\.csv"):
        gc_cache(cache, runs=[tmp_path])
    (run / "run.json").write_text("damaged")
    with pytest.raises(CacheError, match="nobody knows which bottlenecks it names"):
        gc_cache(cache, runs=[tmp_path])
    listing = Listing(cache.folder, "a")
    report = listing.report()
    files.write_checked_json(
        listing.report_path,
        {**files.read_checked_json(listing.report_path), "extraction": {"missing": 3}},
    )
    with pytest.raises(CacheError, match="has not ended"):
        gc_cache(cache, runs=[])
    listing.write(report, listing.samples(), [])
    listing.samples_path.write_text("damaged")
    with pytest.raises(CacheError, match="damaged"):
        gc_cache(cache, runs=[])
    listing.report_path.unlink()
    gc_cache(cache, runs=[], drop=["a"])
    assert "a" not in tables_in(cache) and rows_in(cache).keys() < before.keys()


def until_whole(make, act, check):
    """Kill something before each of its changes in turn; it is done again after each."""
    for number in itertools.count(1):
        place = make(number)
        killed = is_killed(number, lambda place=place: act(place))
        check(place, killed)
        act(place)
        check(place, False)
        if not killed:
            return number


def test_gc__killed_at_any_moment_loses_nothing_wanted(tmp_path):
    sets = make_sets(3, count=8)
    cache = make_cache(tmp_path / "first", 3, sets)
    left = leave(cache, sets, random.Random(3))
    wanted = {key: row for key, row in rows_in(cache).items() if key in named_by(left, [])}

    def check(place, killed):
        found = rows_in(Cache(place), once=not killed)
        assert found.items() >= wanted.items()
        assert killed or found == wanted

    moments = until_whole(copier(cache, tmp_path), lambda place: gc_cache(place, runs=[]), check)
    assert moments > 10


def test_gc__the_same_call_goes_on_where_one_that_drops_data_sets_was_killed(tmp_path):
    sets = make_sets(3, count=8)
    cache = make_cache(tmp_path / "first", 3, sets)
    wanted = rows_in(cache).keys() & named_by(sets[:1], [])
    make = copier(cache, tmp_path)
    for number in itertools.count(1):
        place = make(number)
        killed = is_killed(number, lambda place=place: gc_cache(place, runs=[], drop=["b", "c"]))
        if (place / BEGUN).exists() or (place / "samples" / "b.json").exists():  # else all was done
            gc_cache(place, runs=[], drop=["b", "c"])
        assert rows_in(Cache(place), once=True).keys() == wanted and [*tables_in(Cache(place))] == ["a"]
        if not killed:
            break
    assert number > 10


def copier(cache, tmp_path):
    def copy(number):
        place = tmp_path / f"copy{number}"  # links: no file is ever changed in its place
        return shutil.copytree(cache.folder, place, copy_function=os.link)

    return copy


def test_repair__killed_at_any_moment_loses_no_whole_row(tmp_path):
    cache = make_cache(tmp_path / "first", 4, make_sets(4, count=8))
    before, chance = rows_in(cache), random.Random(0)
    for path in sorted(cache.shards_folder.glob("*.h5"))[:2]:
        flip(path, chance)
    kept = repair_cache(shutil.copytree(cache.folder, tmp_path / "repaired"))[0]
    whole = rows_in(Cache(tmp_path / "repaired"), once=True)
    assert len(whole) >= len(before) - 9 * len(kept.repairs)

    def check(place, killed):
        shutil.rmtree(tmp_path / "last", ignore_errors=True)
        repair_cache(shutil.copytree(place, tmp_path / "last", copy_function=os.link))
        assert rows_in(Cache(tmp_path / "last"), once=True) == whole

    assert until_whole(copier(cache, tmp_path), repair_cache, check) > 5


def test_merge__is_the_union_and_leaves_the_others_alone(tmp_path, seed, monkeypatch):
    caches = []
    for number in range(3):
        sets = make_sets(seed)[number : number + 2]  # shared images; the last has one data set
        if number == 1:
            sets[0].images.popitem()  # another data set of the same name
        caches.append(make_cache(tmp_path / str(number), number, sets))
    union = {key: row for cache in caches for key, row in rows_in(cache).items()}
    tables = [tables_in(cache) for cache in caches]
    before = [bytes_below(cache.folder) for cache in caches[1:]]
    monkeypatch.setattr(kept_index, "LEAST_ROWS", 1)
    done = merge_caches(caches[0], caches[1:])
    assert rows_in(caches[0], once=True) == union and sum(each.rows for each in done) > 0
    found = tables_in(caches[0])
    longer = done[0].names["b"]
    assert [*found] == ["a", "b", longer, "c"] and longer.startswith("b-")
    assert found == {**tables[0], longer: tables[1]["b"], "c": tables[1]["c"]}
    assert [bytes_below(cache.folder) for cache in caches[1:]] == before
    assert (caches[0].folder / kept_index.FILE).exists()
    again = merge_caches(caches[0], [cache.folder for cache in caches[1:]])
    assert [(each.rows, each.names) for each in again] == [(0, {})] * 2
    assert verify_cache(caches[0])[0].is_whole


def test_merge__killed_at_any_moment_goes_on(tmp_path):
    one, other = (make_cache(tmp_path / str(n), n, make_sets(5, count=8)[n : n + 2]) for n in range(2))
    union = {**rows_in(one), **rows_in(other)}
    tables = {**tables_in(one), **tables_in(other)}

    def check(place, killed):
        rows = rows_in(Cache(place), once=True)
        assert rows.keys() <= union.keys() and rows.keys() >= rows_in(one).keys()
        assert killed or (rows == union and tables_in(Cache(place)) == tables)

    before = bytes_below(other.folder)
    moments = until_whole(copier(one, tmp_path), lambda place: merge_caches(place, [other]), check)
    assert moments > 10 and bytes_below(other.folder) == before


def test_merge__refuses_other_bottlenecks_and_leaves_damaged_rows(cache, tmp_path):
    from dataclasses import replace

    other = Cache.create(tmp_path / "other", replace(MANIFEST, fingerprint="e" * 32, precision="bfloat16"))
    with pytest.raises(OptionError, match=r"differ in precision \(bfloat16, now float32\)"):
        merge_caches(cache, [other])
    with pytest.raises(OptionError, match="into itself"):
        merge_caches(cache, [cache.folder])
    extra = make_cache(tmp_path / "extra", 7, make_sets(7))
    rows = rows_in(extra)
    path = next(
        p for p in sorted(extra.shards_folder.glob("*.h5")) if any(r in p.read_bytes() for r in rows.values())
    )
    key = next(key for key, row in rows.items() if row in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(rows[key], bytes(len(rows[key]))))
    (done,) = merge_caches(cache, [extra])
    assert done.damaged == 1 and {*rows} - {*rows_in(cache, once=True)} == {key}

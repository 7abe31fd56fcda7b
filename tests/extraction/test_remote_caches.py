"""Caches at URLs: the same rows as in a local one, whatever goes wrong between."""

import shutil
import signal
from dataclasses import replace

import pytest
from extraction_support import (
    ENGINE,
    INLINE,
    cached_rows,
    check_complete,
    forwarded,
    leftovers,
    prepare,
    requested,
    run_command,
    start_command,
    wait_until,
    write_images,
)

from fastcls import storage
from fastcls.cache import mirror
from fastcls.cache.shard import read_digests
from fastcls.cache.store import Cache
from fastcls.caching.collector import plan_gc
from fastcls.caching.describer import cache_info, list_caches
from fastcls.caching.merger import merge_caches
from fastcls.caching.repairer import repair_cache
from fastcls.caching.verifier import verify_cache
from fastcls.data.dataset import Dataset
from fastcls.errors import CacheError, OptionError, StorageError
from fastcls.extraction.extractor import extract
from fastcls.extraction.planner import plan_extraction
from fastcls.sizes import folder_size
from fastcls.storage import tries

COUNT = 20


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tries, "_WAIT_S", 0.005)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Returns a function that makes this process another machine: what is kept per machine is new."""

    def be(name):
        monkeypatch.setenv("FASTCLS_HOME", str(tmp_path / f"home-{name}"))
        mirror._roots.clear()

    be("a")
    return be


@pytest.fixture
def data(tmp_path):
    write_images(tmp_path / "images", COUNT)
    return tmp_path / "images"


@pytest.fixture
def root(tmp_path, s3, machine):
    """The URL of a folder of caches, with a cache that the request of `fill` leads to."""
    prepare(tmp_path / "local")
    url = f"{s3.bucket()}/some/caches"
    for path in (tmp_path / "local").glob("*/*"):
        storage.send(path, f"{url}/{path.relative_to(tmp_path / 'local').as_posix()}")
    return url


def fill(data, root, tmp_path, config=INLINE):
    return extract(Dataset.open(data), requested(tmp_path / "local"), root, replace(config, engine=ENGINE))[1]


def arguments_of(data, root, tmp_path, shard_size):
    base = ("--base", tmp_path / "local" / "base.keras", "--cache", root)
    return ("extract", data, *base, "--workers", "2", "--batch-size", "1", "--shard-size", shard_size)


def objects(url, suffix=""):
    return {name: each for name, each in storage.walk(url) if name.endswith(suffix)}


def test_a_cache_at_a_url_has_the_rows_of_a_local_one_on_every_machine(data, root, tmp_path, machine, s3):
    assert fill(data, root, tmp_path).forwarded == COUNT
    assert len(objects(root, ".h5")) == len(objects(root, ".digests")) == 5
    machine("b")
    check_complete(mirror.opened(root), COUNT)
    assert not leftovers(mirror.folder_of(root))
    machine("c")
    before = objects(root)
    s3.requests.clear()
    done = fill(data, root, tmp_path)
    assert (done.forwarded, done.reused) == (0, COUNT)
    assert not [request for request in s3.requests if ".h5" in request], (
        "what is missing is known from digests"
    )
    changed = {name for name, each in objects(root).items() if before.get(name) != each}
    assert {name.rpartition("/")[0].rpartition("/")[2] for name in changed} <= {"samples"}
    assert before.keys() == objects(root).keys()


def test_worker_processes_send_their_shards(data, root, tmp_path):
    arguments = arguments_of(data, root, tmp_path, shard_size=4)
    code, out, err = run_command(*arguments)
    assert code == 0, err
    assert f"Cache {root}/" in out and str(mirror.folder_of(root)) not in out + err
    check_complete(mirror.opened(root), COUNT)


def test_a_plan_writes_nothing_remote(data, root, tmp_path, s3):
    before = objects(root)
    s3.requests.clear()
    plan = plan_extraction(
        Dataset.open(data), [requested(tmp_path / "local")], root, replace(INLINE, engine=ENGINE)
    )
    assert f"Cache {root}/" in str(plan) and str(mirror.folder_of(root)) not in str(plan)
    assert objects(root) == before
    assert {request.partition(" ")[0] for request in s3.requests} <= {"GET", "HEAD"}


def test_killed_and_resumed_is_as_uninterrupted(data, root, tmp_path, machine):
    """kill -9 at any moment, here or on another machine: what was sent is never made again."""
    arguments = arguments_of(data, root, tmp_path, shard_size=2)
    process = start_command(*arguments, TEST_DELAY_S="0.1")
    assert wait_until(lambda: len(objects(root, ".h5")) >= 3, timeout_s=30)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    machine("b")
    there = 2 * len(objects(root, ".h5"))
    done = fill(data, root, tmp_path)
    assert done.forwarded + done.reused == COUNT and 0 < done.forwarded <= COUNT - there
    check_complete(mirror.opened(root), COUNT)


def test_what_was_not_sent_is_sent_first_by_the_next_run(data, root, tmp_path, s3):
    with (
        s3.failing(".h5", "403 Forbidden", "AccessDenied", times=99),
        pytest.raises(StorageError, match="refused"),
    ):
        fill(data, root, tmp_path)
    assert not objects(root, ".h5")
    once = forwarded(mirror.folder_of(root))
    done = fill(data, root, tmp_path)
    assert done.forwarded == COUNT - len(once) and len(once) == 4
    check_complete(mirror.opened(root), COUNT)


def test_errors_of_a_moment_and_slow_answers_do_no_harm(data, root, tmp_path, machine, s3):
    with (
        s3.failing("PUT", times=4),
        s3.failing("list-type", times=3),
        s3.failing(".h5", "", wait_s=0.2, times=2),
    ):
        assert fill(data, root, tmp_path).forwarded == COUNT
    machine("b")
    with s3.failing("GET", "500 Internal Server Error", "InternalError", times=4):
        check_complete(mirror.opened(root), COUNT)


@pytest.mark.parametrize("damage", ["truncated", "gone", "no digests", "damaged digests"])
def test_a_shard_that_is_not_whole_is_made_again(data, root, tmp_path, machine, damage, caplog):
    fill(data, root, tmp_path)
    name = sorted(objects(root, ".h5"))[0]
    shard, beside = f"{root}/{name}", f"{root}/{name.removesuffix('.h5')}.digests"
    if damage == "gone":
        storage.remove(shard)
    elif damage == "no digests":
        storage.remove(beside)
    else:
        place = tmp_path / "damaged"
        place.write_bytes(storage.read(shard if damage == "truncated" else beside)[:-30])
        storage.send(place, shard if damage == "truncated" else beside)
    machine("b")
    assert fill(data, root, tmp_path).forwarded == (4 if damage in ("truncated", "gone") else 0)
    assert (shard in caplog.text) == (damage == "truncated")
    machine("c")
    check_complete(mirror.opened(root), COUNT)


def test_a_row_that_was_changed_in_the_store_is_noticed(data, root, tmp_path, machine):
    fill(data, root, tmp_path)
    row = Cache.find(root).read()[0][0].tobytes()
    shards = {name: storage.read(f"{root}/{name}") for name in objects(root, ".h5")}
    ((name, whole),) = (each for each in shards.items() if row in each[1])
    known = bytearray(whole)
    known[known.index(row)] ^= 255
    (tmp_path / "changed").write_bytes(known)
    assert all(each.is_whole for each in verify_cache(root))
    storage.send(tmp_path / "changed", f"{root}/{name}")
    ((damage,),) = (each.damages for each in verify_cache(root))
    assert str(damage).startswith(f"{root}/{name}: ")
    machine("b")
    with pytest.raises(CacheError, match=f"{root}/{name}.*damaged"):
        cached_rows(root)
    storage.remove(f"{root}/{name}")
    assert fill(data, root, tmp_path).forwarded == 4
    check_complete(mirror.opened(root), COUNT)


def test_two_machines_that_fill_one_cache_lose_nothing(data, root, tmp_path, machine):
    """Each has looked before the other has begun: the rows are those of both, the table that of the last."""
    plans = []
    for name in "ab":
        machine(name)
        plans.append(name)
        fill(data, root, tmp_path, replace(INLINE, shard_size=4 if name == "a" else 7))
    write_images(tmp_path / "more", COUNT + 6)
    machine("a")
    assert fill(tmp_path / "more", root, tmp_path).forwarded == 6
    machine("c")
    assert {row.path for row in Cache.find(root, "images").samples()} == set(
        sample.path for sample in Dataset.open(data).samples
    )
    assert len(Cache.find(root, "more").read()[1]) == COUNT + 6


def test_machines_share_the_work_and_one_is_killed(data, root, tmp_path, machine):
    arguments = (*arguments_of(data, root, tmp_path, shard_size=2), "--executor", "shared")
    processes = []
    for name in ("killed", "stays"):
        machine(name)
        processes.append(start_command(*arguments, TEST_DELAY_S="0.1", TEST_EXPIRES_S="1"))
    assert wait_until(lambda: len(objects(root, ".h5")) >= 2, timeout_s=60)
    processes[0].kill()
    for process in processes:
        told = process.communicate(timeout=60)
    assert processes[1].returncode == 0, told
    machine("c")
    check_complete(mirror.opened(root), COUNT)
    cache = Cache.find(root)
    known = [read_digests(path, cache.manifest.fingerprint) for path in cache.index().shards]
    assert sum(map(len, known)) == COUNT
    assert not [name for name in objects(root) if "/tasks/" in name]


def test_caches_of_this_machine_are_merged_into_one_at_a_url_and_back(data, root, tmp_path, machine):
    fill(data, tmp_path / "local", tmp_path)
    (done,) = merge_caches(root, [tmp_path / "local"])
    assert (done.rows, done.shards) == (COUNT, 5)
    machine("b")
    check_complete(mirror.opened(root), COUNT)
    info = cache_info(root)
    assert (info.rows, info.shards, info.others) == (COUNT, 5, ()) and 0 < info.shard_bytes < info.bytes
    assert info.mirror and info.mirror_bytes == folder_size(info.mirror) > info.shard_bytes
    shutil.rmtree(info.mirror)
    (summary,) = list_caches(root)
    assert (summary.rows, summary.shards) == (COUNT, 5) and summary.to_dict()["path"].startswith(root)
    prepare(tmp_path / "copy")
    (done,) = merge_caches(tmp_path / "copy", [root])
    assert done.rows == COUNT and str(done.source).startswith(str(mirror.folder_of(root)))
    check_complete(tmp_path / "copy", COUNT)
    for refused in (lambda: plan_gc(root, runs=[]), lambda: repair_cache(root)):
        with pytest.raises(OptionError, match=f"{root}/.* at a URL"):
            refused()


def test_what_engines_load_is_found_by_machines_that_did_not_make_it(root, machine):
    trunk = Cache.find(root).trunk_path
    (trunk.parent / "converted").mkdir()
    for name in ("trunk.bin", "digests.json"):
        (trunk.parent / "converted" / name).write_text(f"that of {name}")
    mirror.push_engines(trunk)
    machine("b")
    trunk = Cache.find(root).trunk_path
    mirror.pull_engines(trunk)
    mirror.pull_engines(trunk)
    names = sorted(path.name for path in (trunk.parent / "converted").iterdir())
    assert names == ["digests.json", "trunk.bin"] and not (trunk.parent / "samples").exists()
    assert (trunk.parent / "converted" / "trunk.bin").read_text() == "that of trunk.bin"


def test_a_cache_that_was_removed_there_is_gone_here(data, root, tmp_path):
    fill(data, root, tmp_path)
    for name in objects(root):
        storage.remove(f"{root}/{name}")
    with pytest.raises(CacheError, match=f"No bottleneck cache in {root}"):
        Cache.find(root)


def test_what_cannot_be_written_to_is_refused_before_the_first_image(data, root, tmp_path, s3):
    with (
        s3.failing("PUT", "403 Forbidden", "AccessDenied", times=99),
        pytest.raises(OptionError, match=f"{root} cannot be written to.*AWS_ACCESS_KEY_ID"),
    ):
        fill(data, root, tmp_path)
    assert not forwarded(mirror.folder_of(root))


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("s3://no-such-bucket/caches", "bucket of s3://no-such-bucket/caches does not exist"),
        ("s4://bucket/caches", "Unknown scheme"),
        ("s3:///caches", "without empty parts"),
        ("s3://bucket/../caches", "without empty parts"),
        ("https://example.org/caches", "no listing"),
    ],
)
def test_a_url_that_is_none_of_a_cache_is_refused(data, tmp_path, s3, machine, url, error):
    with pytest.raises((OptionError, StorageError), match=error):
        fill(data, url, tmp_path)
    with pytest.raises((OptionError, StorageError), match=error):
        Cache.find(url)

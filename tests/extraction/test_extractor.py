import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import h5py
import numpy as np
import pytest
from extraction_support import (
    ABORT,
    ENGINE,
    KILL_ONCE,
    NAN,
    OVERFLOW,
    RAISE,
    cached_rows,
    encoded,
    expected_rows,
    extract_arguments,
    forwarded,
    leftovers,
    living,
    only_cache,
    prepare,
    requested,
    run_command,
    start_command,
    wait_until,
    write_images,
)

from fastcls import files
from fastcls.data.dataset import Dataset
from fastcls.errors import CacheError, DataError, OptionError, WorkerError
from fastcls.extraction import worker
from fastcls.extraction.extractor import extract
from fastcls.specs import ExtractConfig

SMALL = ExtractConfig(workers=1, batch_size=1, shard_size=4)
INLINE = ExtractConfig(workers=0, batch_size=1, shard_size=4)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def young_files_trusted(monkeypatch):
    """This process relies on the state of files that were written just now."""
    monkeypatch.setattr(worker, "_SETTLED_NS", 0)


def fill(data, root, config=INLINE, engine=ENGINE, dtype="float32"):
    request = requested(root, dtype) if root.exists() else prepare(root, dtype)
    return extract(Dataset.open(data), request, root, config, engine=engine)[1]


def check_complete(root, count, without=()):
    """Every image has its exact row, and every digest is in one place."""
    rows = cached_rows(root)
    numbers = [number for number in range(count) if number not in without]
    assert [int(path[2:8]) for path in rows] == sorted(numbers, key=lambda number: (number % 2, number))
    found = np.stack([rows[f"{'ab'[number % 2]}/{number:06}.png"] for number in numbers])
    assert np.array_equal(found, expected_rows(numbers))
    assert len(only_cache(root).index()) == len(set(only_cache(root).index().digests)) == len(numbers)
    assert leftovers(root) == []


# Who does the work


@pytest.mark.parametrize("workers, shards", [(0, 6), (1, 6), (2, 6), (4, 8)])
def test_extract__same_rows_whatever_the_workers(data, root, workers, shards):
    write_images(data, 50)
    done = fill(data, root, ExtractConfig(workers=workers, batch_size=7, shard_size=9))
    assert (done.images, done.forwarded, done.reused, done.failures, done.missing) == (50, 50, 0, 0, 0)
    assert done.shards == shards
    check_complete(root, 50)


def test_extract__same_shards_by_this_process_and_by_another(data, tmp_path):
    write_images(data, 20)
    shards = []
    for workers in (0, 1):
        root = tmp_path / f"cache{workers}"
        fill(data, root, ExtractConfig(workers=workers, batch_size=4, shard_size=6))
        index = only_cache(root).index()
        shards.append([[path.name for path in index.shards], index.digests.tolist(), index.row.tolist()])
    assert shards[0] == shards[1]


def test_extract__deflated_rows_are_the_same(data, root):
    write_images(data, 20)
    fill(data, root, ExtractConfig(workers=1, batch_size=4, shard_size=6, compress=True))
    check_complete(root, 20)
    with h5py.File(only_cache(root).index().shards[0]) as file:
        assert file["bottlenecks"].compression == "gzip"


def test_extract__again_forwards_nothing(data, root):
    write_images(data, 10)
    fill(data, root)
    done = fill(data, root, SMALL, engine="nowhere:Nothing")
    assert (done.forwarded, done.reused, done.shards) == (0, 10, 0)


def test_extract__strange_names_cross_the_process_border(data, root):
    write_images(data, 2)
    names = ["new\nline.png", 'quote".png', "comma,.png", "žluťoučký 😀.png", "tab\t\r.png"]
    for number, name in enumerate(names, start=2):
        (data / "a" / name).write_bytes(encoded(number))
    fill(data, root, SMALL)
    rows = cached_rows(root)
    found = np.stack([rows[f"a/{name}"] for name in names])
    assert np.array_equal(found, expected_rows(range(2, 7)))
    assert fill(data, root, SMALL).reused == 7


@pytest.mark.parametrize("arguments", [["-c", "exec(open(0).read())"], ["-"]])
def test_extract__a_parent_without_a_main_file(data, root, arguments):
    write_images(data, 4)
    prepare(root)
    code = f"""
from pathlib import Path
from fastcls import BaseSpec, CutSpec, Dataset, extract
request = CutSpec(BaseSpec({str(root / "base.keras")!r}))
data, root = Path({str(data)!r}), Path({str(root)!r})
print(extract(Dataset.open(data), request, root, engine={ENGINE!r})[1].forwarded)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, input=code, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "4\n"), done.stderr


# What is forwarded again


def test_extract__forwards_exactly_what_changed(data, root):
    write_images(data, 8)
    fill(data, root)
    image = data / "a" / "000000.png"

    def forwarded_now(change):
        change()
        before = len(forwarded(root))
        fill(data, root)
        return forwarded(root)[before:]

    def replace_bytes():
        image.write_bytes(encoded(100))

    def rename():
        image.rename(data / "a" / "renamed.png")

    def relabel():
        (data / "a" / "renamed.png").rename(data / "b" / "renamed.png")

    def resplit():
        (data / "train").mkdir()
        for name in "ab":
            (data / name).rename(data / "train" / name)

    def add():
        (data / "train" / "a" / "new.png").write_bytes(encoded(200))

    def remove():
        (data / "train" / "a" / "new.png").unlink()

    def copy():
        (data / "train" / "b" / "copy.png").write_bytes(encoded(200))

    def touch():
        os.utime(data / "train" / "b" / "copy.png")

    assert forwarded_now(replace_bytes) == [100]
    assert forwarded_now(rename) == []
    assert forwarded_now(relabel) == []
    assert forwarded_now(resplit) == []
    assert forwarded_now(add) == [200]
    assert forwarded_now(remove) == []
    assert forwarded_now(copy) == []
    assert forwarded_now(touch) == []
    samples = {row.path: row for row in only_cache(root).samples()}
    assert samples["train/b/renamed.png"].label == "b"
    assert {row.split for row in samples.values()} == {"train"}
    assert np.array_equal(cached_rows(root)["train/b/renamed.png"], expected_rows([100])[0])


def test_extract__bytes_changed_behind_size_and_time_are_seen(data, root, young_files_trusted):
    write_images(data, 4)
    image = data / "a" / "000000.png"
    padding = b"\0" * 16  # behind the end of a PNG anything may follow
    image.write_bytes(encoded(0) + padding)
    fill(data, root)
    state = image.stat()
    other = encoded(300)
    image.write_bytes(other + b"\0" * (state.st_size - len(other)))
    os.utime(image, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert image.stat().st_size == state.st_size and image.stat().st_mtime_ns == state.st_mtime_ns
    fill(data, root)
    assert forwarded(root)[4:] == [300]
    assert np.array_equal(cached_rows(root)["a/000000.png"], expected_rows([300])[0])


def test_extract__copies_of_an_image_are_forwarded_once_per_task(data, root):
    write_images(data, 2)
    for copy in range(6):
        (data / "a" / f"copy{copy}.png").write_bytes(encoded(0))
    done = fill(data, root, ExtractConfig(workers=0, batch_size=1, shard_size=100))
    assert (done.forwarded, done.reused, len(forwarded(root))) == (2, 6, 2)


# Images that give no bottleneck


def break_images(data):
    (data / "a" / "000000.png").write_bytes(b"")
    (data / "a" / "000002.png").write_bytes(encoded(2)[:60])
    (data / "a" / "000004.jpg").write_text("this is not a photo")
    (data / "a" / "gone.png").symlink_to(data / "nowhere.png")


def test_extract__unreadable_images_are_data(data, root):
    write_images(data, 8)
    break_images(data)
    done = fill(data, root, SMALL)
    assert (done.images, done.forwarded, done.failures) == (10, 6, 4)
    reasons = {failure.path: failure.reason for failure in only_cache(root).failures()}
    assert reasons["a/000000.png"] == "empty file"
    assert "truncated" in reasons["a/000002.png"]
    assert "not an image" in reasons["a/000004.jpg"]
    assert "No such file" in reasons["a/gone.png"]
    assert len(cached_rows(root)) == 6


def test_extract__known_failures_are_not_tried_again_until_repaired(data, root, young_files_trusted):
    write_images(data, 8)
    break_images(data)
    (data / "a" / "gone.png").unlink()
    fill(data, root)
    tried = fill(data, root, SMALL, engine="nowhere:Nothing")
    assert (tried.forwarded, tried.reused, tried.failures, tried.shards) == (0, 6, 3, 0)
    (data / "a" / "000002.png").write_bytes(encoded(2))
    repaired = fill(data, root)
    assert (repaired.forwarded, repaired.failures) == (1, 2)
    assert forwarded(root)[6:] == [2]


@pytest.mark.parametrize("workers", [0, 2])
def test_extract__too_many_failures_stop_it(data, root, workers):
    write_images(data, 40)
    for number in range(20, 40, 2):
        (data / "a" / f"{number:06}.png").write_bytes(b"%d" % number)
    config = ExtractConfig(workers=workers, batch_size=1, shard_size=4, max_failures=5)
    with pytest.raises(WorkerError, match="more than --max-failures 5"):
        fill(data, root, config)
    kept = len(only_cache(root).index())
    assert leftovers(root) == []
    assert len(only_cache(root).failures()) > 5
    done = fill(data, root)
    assert (done.forwarded, done.reused, done.failures) == (30 - kept, kept, 10)
    with pytest.raises(WorkerError, match="max-failures"):
        fill(data, root, config)


def test_extract__no_readable_image_at_all(data, root):
    write_images(data, 4)
    for image in data.rglob("*.png"):
        image.write_bytes(b"")
    with pytest.raises(DataError, match="Not one of 4 images could be read: empty file"):
        fill(data, root)


@pytest.mark.parametrize("command", [OVERFLOW, NAN])
def test_extract__bottlenecks_that_do_not_fit(data, root, command):
    write_images(data, 6, {3: command})
    (data / "b" / "copy.png").write_bytes(encoded(3, command))
    done = fill(data, root, dtype="float16", config=ExtractConfig(workers=0, batch_size=2, shard_size=9))
    assert (done.forwarded, done.reused, done.failures) == (5, 0, 2)
    for failure in only_cache(root).failures():
        assert "does not fit float16" in failure.reason
    assert fill(data, root, dtype="float16").failures == 2


# Crashes


def test_extract__finds_the_image_that_crashes_a_worker(data, root):
    write_images(data, 24, {5: ABORT, 14: ABORT})
    time.sleep(2.1)  # so that the state of the files is relied on
    done = fill(data, root, ExtractConfig(workers=2, batch_size=1, shard_size=8))
    assert (done.forwarded, done.failures) == (22, 2)
    failures = only_cache(root).failures()
    assert [failure.path for failure in failures] == ["a/000014.png", "b/000005.png"]
    assert {failure.reason for failure in failures} == {"crashes the worker: killed by SIGABRT"}
    check_complete(root, 24, without=(5, 14))
    assert fill(data, root, SMALL, engine="nowhere:Nothing").failures == 2


def test_extract__a_worker_killed_once_costs_only_a_retry(data, root):
    write_images(data, 24, {5: KILL_ONCE})
    done = fill(data, root, ExtractConfig(workers=2, batch_size=1, shard_size=8))
    assert (done.forwarded, done.failures) == (24, 0)
    assert len(forwarded(root)) <= 24 + 8 and leftovers(root) == []


@pytest.mark.parametrize(
    "engine, message",
    [
        ("nowhere:Nothing", "cannot load .*ModuleNotFoundError: No module named 'nowhere'"),
        ("extraction_support:BrokenEngine", "cannot load .*RuntimeError: no such device"),
        ("extraction_support:DyingEngine", "cannot live: killed by SIGABRT"),
    ],
)
def test_extract__workers_that_can_never_live(data, root, engine, message):
    write_images(data, 24)
    with pytest.raises(WorkerError, match=message):
        fill(data, root, ExtractConfig(workers=2, shard_size=8), engine=engine)


def test_extract__an_engine_that_raises_stops_the_run(data, root):
    write_images(data, 8, {5: RAISE})
    with pytest.raises(WorkerError, match="A batch of 1 images failed: ValueError: the engine does not"):
        fill(data, root, SMALL)


def test_extract__workers_that_cannot_start_say_why(data, root, monkeypatch, tmp_path):
    write_images(data, 4)
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.exit('no licence today')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkerError, match="ended with exit code 1: SystemExit: no licence today"):
        fill(data, root, SMALL)


# Interruptions


ARGUMENTS = ("--workers", "2", "--batch-size", "1", "--shard-size", "8")


def test_extract__resumes_after_kills_at_random_moments(data, root):
    count, kills = 320, 10
    write_images(data, count)
    prepare(root)
    number_of = {files.digest(encoded(number)).encode(): number for number in range(count)}
    moments = random.Random(7)
    finished, seen = set(), 0
    for kill in range(kills):
        token = f"{os.getpid()}-kill-{kill}"
        process = start_command(*extract_arguments(data, root, *ARGUMENTS), token=token, TEST_DELAY_S="0.004")
        if kill % 3 == 0:
            time.sleep(moments.uniform(0, 1))  # perhaps before anything is forwarded
        else:
            goal = seen + moments.randint(1, 24)
            assert wait_until(lambda: len(forwarded(root)) >= goal)  # noqa: B023
        process.kill()
        process.communicate()
        assert wait_until(lambda: not living(token), timeout_s=3), "orphaned workers go on"  # noqa: B023
        assert not finished.intersection(forwarded(root)[seen:]), "a finished shard is computed again"
        finished |= {number_of[digest] for digest in only_cache(root).index().digests}
        seen = len(forwarded(root))
    assert 0 < len(finished) < count  # otherwise this has not tested much
    code, _, error = run_command(*extract_arguments(data, root, *ARGUMENTS))
    assert code == 0, error
    assert not finished.intersection(forwarded(root)[seen:])
    check_complete(root, count)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_extract__ends_in_order_when_interrupted(data, root, number):
    write_images(data, 64)
    prepare(root)
    token = f"{os.getpid()}-{number.name}"
    process = start_command(*extract_arguments(data, root, *ARGUMENTS), token=token, TEST_DELAY_S="0.02")
    cache = only_cache(root)
    assert wait_until(lambda: cache.shards_folder.exists() and len(cache.index()) >= 16)
    process.send_signal(number)
    _, error = process.communicate(timeout=10)
    assert process.returncode == 130
    assert error.lstrip().startswith("Interrupted. What is finished is kept") and "Traceback" not in error
    assert living(token) == [] and leftovers(root) == []
    kept = len(cache.index())
    assert 16 <= kept < 64 and len(cache.samples()) == 64
    report = files.read_json(cache.folder / "extraction.json")
    assert report["data"] == str(data) and report["missing"] >= 64 - kept
    done = fill(data, root)
    assert (done.forwarded, done.reused) == (64 - kept, kept)
    check_complete(root, 64)


def test_extract__two_runs_at_once(data, root):
    write_images(data, 80)
    prepare(root)
    arguments = extract_arguments(data, root, *ARGUMENTS)
    both = [start_command(*arguments, TEST_DELAY_S="0.005") for _ in range(2)]
    for process in both:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
    assert len(cached_rows(root)) == 80 and leftovers(root) == []
    numbers = [int(path[2:8]) for path in cached_rows(root)]
    assert np.array_equal(np.stack(list(cached_rows(root).values())), expected_rows(numbers))
    assert fill(data, root, engine="nowhere:Nothing").reused == 80


# Damage


def damage_shard(root, number, change):
    path = sorted(only_cache(root).shards_folder.iterdir())[number]
    path.write_bytes(change(bytearray(path.read_bytes())))
    return path


def flip(place):
    def change(data):
        data[place % len(data)] ^= 0x10
        return data

    return change


@pytest.mark.parametrize(
    "change", [flip(60), lambda data: data[:1000], lambda data: b"", lambda data: b"x" * 99]
)
def test_extract__heals_a_damaged_shard(data, root, change):
    write_images(data, 12)
    fill(data, root)
    damage_shard(root, 1, change)
    before = set(cached_rows(root))
    done = fill(data, root)
    assert (done.forwarded, done.reused, len(before)) == (4, 8, 8)
    assert len(forwarded(root)) == 16
    check_complete(root, 12)


def test_extract__a_damaged_row_is_named_and_forwarded_again_once_its_shard_is_gone(data, root):
    write_images(data, 12)
    fill(data, root)
    row = expected_rows([0])[0].tobytes()
    shards = only_cache(root).shards_folder
    path = next(path for path in shards.iterdir() if row in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(row, row[::-1]))
    with pytest.raises(CacheError, match=f"Shard {path} is damaged: row 0 .* Delete this one file"):
        cached_rows(root)
    path.unlink()
    assert fill(data, root).forwarded == 4
    check_complete(root, 12)


@pytest.mark.parametrize("name", ["samples.csv", "failures.csv"])
def test_extract__makes_a_damaged_table_anew(data, root, name):
    write_images(data, 6)
    (data / "a" / "broken.png").write_bytes(b"")
    fill(data, root)
    table = only_cache(root).folder / name
    good = table.read_text()
    table.write_text(good[: len(good) // 4])
    done = fill(data, root, engine="nowhere:Nothing")
    assert (done.forwarded, done.reused, done.failures) == (0, 6, 1)
    assert len(only_cache(root).samples()) == 7 and len(only_cache(root).failures()) == 1


def test_extract__never_mixes_with_another_version(data, root):
    write_images(data, 4)
    fill(data, root)
    manifest = only_cache(root).folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(OptionError, match=r"base\.keras"):  # it looks for the base anew, which is no model
        fill(data, root)
    assert len(forwarded(root)) == 4


# The disk


def test_command__a_full_disk(data, tmp_path, mount):
    write_images(data, 200)
    root = mount(tmp_path / "disk", "tmpfs", "size=200k") / "cache"
    prepare(root)
    arguments = extract_arguments(data, root, *ARGUMENTS)
    code, _, error = run_command(*arguments)
    assert code == 1 and "Traceback" not in error
    assert f"cannot write or read {root}" in error and "No space left on device. Make room" in error
    assert leftovers(root) == []
    seen = forwarded(root)
    kept = len(only_cache(root).index())
    subprocess.run(["mount", "-o", "remount,size=8m", root.parent], check=True)
    code, _, error = run_command(*arguments)
    assert code == 0, error
    assert kept and len(forwarded(root)) - len(seen) == 200 - kept
    check_complete(root, 200)


def test_command__a_read_only_cache(data, root, mount):
    write_images(data, 8)
    prepare(root)
    mount(root, root, "bind")
    mount(root, root, "remount,bind,ro")
    code, _, error = run_command(*extract_arguments(data, root))
    assert code == 1 and "Traceback" not in error
    assert f"cannot write or read {root}" in error and "Read-only file system" in error


# The command line


def test_command__a_second_run_reads_no_file_and_loads_no_tensorflow(data, root):
    write_images(data, 12)
    prepare(root)
    time.sleep(2.1)  # so that the state of the files is relied on
    first = run_command(*extract_arguments(data, root, *ARGUMENTS))
    assert first[0] == 0 and "12 forwarded" in first[1], first
    code, out, error = run_command(*extract_arguments(data, root, *ARGUMENTS))
    assert (code, error) == (0, "tensorflow=False\n")
    assert "12 images: 0 forwarded, 12 reused" in out


def test_extract__memory_per_image_is_that_of_a_small_table(data, root, young_files_trusted):
    count = 10_000
    write_images(data, 2)
    for number in range(2, count):  # links to one image: nothing but the table grows
        os.link(data / "a" / "000000.png", data / "ab"[number % 2] / f"{number:06}.png")
    fill(data, root, ExtractConfig(workers=0, batch_size=8))
    dataset, request = Dataset.open(data), requested(root)
    tracemalloc.start()
    done = extract(dataset, request, root, engine="nowhere:Nothing")[1]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (done.reused, done.forwarded) == (count, 0)
    assert peak / count < 500


def test_worker__a_file_in_the_working_directory_is_no_module(data, root, monkeypatch, tmp_path):
    write_images(data, 4)
    for name in ("queue", "random", "h5py"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert fill(data, root, SMALL).forwarded == 4

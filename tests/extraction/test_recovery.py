"""What crashes, kills, damage and full disks leave behind, and that the same command goes on from there."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from extraction_support import (
    ABORT,
    ARGUMENTS,
    KILL_ONCE,
    SMALL,
    cached_rows,
    check_complete,
    encoded,
    expected_rows,
    extract_arguments,
    fill,
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
from fastcls.cache.lease import Leases
from fastcls.cache.listing import listings
from fastcls.errors import CacheError, OptionError, WorkerError
from fastcls.extraction.fingerprint import cut_token
from fastcls.specs import ExtractConfig

# Crashes


def test_extract__finds_the_image_that_crashes_a_worker(data, root):
    write_images(data, 24, {5: ABORT, 14: ABORT})
    time.sleep(2.1)  # so that the state of the files is relied on
    done = fill(data, root, ExtractConfig(workers=2, batch_size=1, shard_size=4))
    assert (done.forwarded, done.failures) == (22, 2)
    failures = only_cache(root).failures()
    assert [failure.path for failure in failures] == ["a/000014.png", "b/000005.png"]
    assert {failure.reason for failure in failures} == {"crashes the worker: killed by SIGABRT"}
    check_complete(root, 24, without=(5, 14))
    assert fill(data, root, SMALL, engine="extraction_support:BrokenEngine").failures == 2


def test_extract__a_worker_killed_once_costs_only_a_retry(data, root):
    write_images(data, 24, {5: KILL_ONCE})
    done = fill(data, root, ExtractConfig(workers=2, batch_size=1, shard_size=8))
    assert (done.forwarded, done.failures) == (24, 0)
    assert len(forwarded(root)) <= 24 + 8 and leftovers(root) == []


@pytest.mark.parametrize(
    "engine, message",
    [
        ("extraction_support:BrokenEngine", "cannot load .*RuntimeError: no such device"),
        ("extraction_support:DyingEngine", "workers keep crashing: killed by SIGABRT"),
    ],
)
def test_extract__workers_that_keep_crashing(data, root, engine, message):
    write_images(data, 24)
    with pytest.raises(WorkerError, match=message):
        fill(data, root, ExtractConfig(workers=2, shard_size=8), engine=engine)


def test_extract__workers_that_cannot_start_say_why(data, root, monkeypatch, tmp_path):
    write_images(data, 4)
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.exit('no licence today')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkerError, match="ended with exit code 1: SystemExit: no licence today"):
        fill(data, root, SMALL)


# Interruptions


def test_extract__resumes_after_kills_at_random_moments(data, root):
    count, kills = 128, 4
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
    assert error.lstrip().startswith("Interrupted. What was saved is kept") and "Traceback" not in error
    assert living(token) == [] and leftovers(root) == []
    kept = len(cache.index())
    assert 16 <= kept < 64 and len(cache.samples()) == 64
    report = cache.listing.report()
    assert report.root == str(data) and report.extraction["missing"] >= 64 - kept
    done = fill(data, root)
    assert (done.forwarded, done.reused) == (64 - kept, kept)
    check_complete(root, 64)


def test_extract__several_runs_at_once_forward_each_image_once(data, root, tmp_path):
    write_images(data, 80)
    write_images(tmp_path / "more", 90)
    prepare(root)
    commands = [
        extract_arguments(data, root, *ARGUMENTS),
        extract_arguments(data, root, *ARGUMENTS),
        extract_arguments(tmp_path / "more", root, *ARGUMENTS),
        extract_arguments(data, root, *ARGUMENTS, "--views", "2", "--augment", "gamma=2:3", "--name", "two"),
    ]
    processes = [start_command(*command, TEST_DELAY_S="0.005") for command in commands]
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, results
    waited = [
        error for _, error in results if f"Another process is filling {only_cache(root).folder}" in error
    ]
    assert len(waited) == 3 and not any("Traceback" in error for _, error in results)
    cache = only_cache(root)
    digests = cache.index().digests
    assert len(digests) == len(set(digests)) == 90 + 80 and len(forwarded(root)) == 90 + 80
    tables = {listing.name: listing for listing in listings(cache.folder)}
    counts = {name: (len(table.samples()), table.report().views.views) for name, table in tables.items()}
    assert counts == {"data": (80, 1), "more": (90, 1), "two": (80, 2)}
    assert leftovers(root) == []
    assert cache.manifest.cuts == (cut_token(requested(root)),)


def test_extract__ends_while_it_waits(data, root):
    write_images(data, 8)
    prepare(root)
    with Leases() as leases:
        leases.take([only_cache(root).folder])
        process = start_command(*extract_arguments(data, root))
        assert "Waiting for it to end" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=10)
    assert process.returncode == 130 and "Traceback" not in error
    assert fill(data, root).forwarded == 8


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
    with pytest.raises(CacheError, match=f"Shard {path} is damaged: row 0 .* Delete this file"):
        cached_rows(root)
    path.unlink()
    assert fill(data, root).forwarded == 4
    check_complete(root, 12)


@pytest.mark.parametrize("name", ["samples/data.csv", "failures/data.csv", "samples/data.json"])
def test_extract__makes_a_damaged_table_anew(data, root, name):
    write_images(data, 6)
    (data / "a" / "broken.png").write_bytes(b"")
    fill(data, root)
    table = only_cache(root).folder / name
    good = table.read_bytes()
    for damage in (
        good[: len(good) // 4],
        good.replace(b"a/", b"\xe4/", 1),
        b"",
        good[: good.rindex(b"\n", 0, -1)],
    ):
        table.write_bytes(damage)
        done = fill(data, root)
        assert (done.forwarded, done.reused, done.failures) == (0, 6, 1)
        assert len(only_cache(root).samples()) == 7 and len(only_cache(root).failures()) == 1
    table.unlink()
    assert fill(data, root).reused == 6 and len(only_cache(root).failures()) == 1


def test_extract__a_kill_at_any_write_is_mended_by_the_same_command(data, root, monkeypatch):
    """Each file that it puts in its place, in turn, is the last one."""
    write_images(data, 6)
    (data / "a" / "broken.png").write_bytes(b"")
    prepare(root)
    replace, killed = Path.replace, 0

    def replace_or_die(path, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return replace(path, target)

    for last in range(40):
        (data / "b" / "000001.png").write_bytes(encoded(100 + last))  # something new each time
        left = last
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace_or_die)
            try:
                fill(data, root)
                break
            except KeyboardInterrupt:
                killed += 1
        done = fill(data, root)
        assert (done.images, done.failures, done.missing) == (7, 1, 0)
        cache = only_cache(root)
        assert len(cache.samples()) == 7 and len(cache.failures()) == 1 and leftovers(root) == []
        found = cached_rows(root)["b/000001.png"]
        assert np.array_equal(found, expected_rows([100 + last])[0])
    assert killed >= 4


def test_extract__never_mixes_with_another_version(data, root):
    write_images(data, 4)
    fill(data, root)
    manifest = only_cache(root).folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 3', '"version": 4'))
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
    assert f"cannot write or read {root}" in error and "No space left on device. Free some space" in error
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
    assert f"Error: {root} is not writable" in error

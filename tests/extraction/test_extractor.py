import os
import subprocess
import sys
import time
import tracemalloc

import h5py
import numpy as np
import pytest
from extraction_support import (
    ARGUMENTS,
    ENGINE,
    NAN,
    OVERFLOW,
    SMALL,
    cached_rows,
    check_complete,
    encoded,
    expected_rows,
    extract_arguments,
    fill,
    forwarded,
    only_cache,
    prepare,
    requested,
    run_command,
    write_images,
)

from fastcls.cache.samples import FileState
from fastcls.data.dataset import Dataset
from fastcls.errors import CacheError, DataError
from fastcls.extraction.extractor import extract
from fastcls.extraction.reading import _is_settled
from fastcls.specs import ExtractConfig, TrainConfig
from fastcls.training.rows.selection import select

# Who does the work


def test_extract__deflated_rows_are_the_same(data, root):
    write_images(data, 20)
    fill(data, root, ExtractConfig(workers=1, batch_size=4, shard_size=6, compress=True))
    check_complete(root, 20)
    with h5py.File(only_cache(root).index().shards[0]) as file:
        assert file["bottlenecks"].compression == "gzip"


def test_extract__again_forwards_nothing(data, root):
    write_images(data, 10)
    fill(data, root)
    done = fill(data, root, SMALL, engine="extraction_support:BrokenEngine")
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
from fastcls import BaseSpec, CutSpec, Dataset, ExtractConfig, extract
request = CutSpec(BaseSpec({str(root / "base.keras")!r}))
data, root = Path({str(data)!r}), Path({str(root)!r})
print(extract(Dataset.open(data), request, root, ExtractConfig(engine={ENGINE!r}))[1].forwarded)
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


@pytest.mark.parametrize(
    ("modified_s", "changed_s", "is_relied_on"),
    [
        (-10, -10, True),
        (-10, -1, False),  # renamed, or given an old time, just now
        (-1, -10, False),  # a file system whose time of change is none
        (3600, -10, True),  # a time of the future: what is changed later has another time of change
        (3600, 3600, False),  # the clock was set back
        (1, 1, False),
    ],
)
def test_identify__the_state_of_a_file_is_relied_on_if_a_change_would_show(
    modified_s, changed_s, is_relied_on
):
    now = 10**18
    state = FileState(9, now + modified_s * 10**9, now + changed_s * 10**9)
    assert _is_settled(state, now) == is_relied_on


def test_extract__a_file_of_the_future_is_seen_to_change(data, root, young_files_trusted):
    write_images(data, 4)
    image, future = data / "a" / "000000.png", 4 * 10**18
    os.utime(image, ns=(future, future))
    fill(data, root)
    assert fill(data, root, engine="extraction_support:BrokenEngine").reused == 4
    (row,) = [row for row in only_cache(root).samples() if row.path == "a/000000.png"]
    assert row.state.mtime_ns == future
    config = TrainConfig(val=0)
    select(only_cache(root), config)
    time.sleep(0.02)  # the clock of files ticks
    image.write_bytes(encoded(300))
    os.utime(image, ns=(future, future))
    with pytest.raises(CacheError, match="stale: 1 image changed"):
        select(only_cache(root), config)
    fill(data, root)
    assert forwarded(root)[4:] == [300]
    select(only_cache(root), config)


# Images that give no bottleneck


def break_images(data):
    (data / "a" / "000000.png").write_bytes(b"")
    (data / "a" / "000002.png").write_bytes(encoded(2)[:60])
    (data / "a" / "000004.jpg").write_text("this is not a photo")


def test_extract__unreadable_images_are_data(data, root):
    write_images(data, 8)
    break_images(data)
    done = fill(data, root, SMALL)
    assert (done.images, done.forwarded, done.failures) == (9, 6, 3)
    reasons = {failure.path: failure.reason for failure in only_cache(root).failures()}
    assert reasons["a/000000.png"] == "empty file"
    assert "truncated" in reasons["a/000002.png"]
    assert "not an image" in reasons["a/000004.jpg"]
    assert len(cached_rows(root)) == 6


def test_extract__known_failures_are_not_tried_again_until_repaired(data, root, young_files_trusted):
    write_images(data, 8)
    break_images(data)
    fill(data, root)
    tried = fill(data, root, SMALL, engine="extraction_support:BrokenEngine")
    assert (tried.forwarded, tried.reused, tried.failures, tried.shards) == (0, 6, 3, 0)
    (data / "a" / "000002.png").write_bytes(encoded(2))
    repaired = fill(data, root)
    assert (repaired.forwarded, repaired.failures) == (1, 2)
    assert forwarded(root)[6:] == [2]


def test_extract__no_readable_image_at_all(data, root):
    write_images(data, 4)
    for image in data.rglob("*.png"):
        image.write_bytes(b"")
    with pytest.raises(DataError, match="None of the 4 images could be used: empty file"):
        fill(data, root)


@pytest.mark.parametrize(
    "command, reason",
    [(OVERFLOW, "a value of 1e+06, and float16 ends at 65504. Use --dtype float32"), (NAN, "not finite")],
)
def test_extract__bottlenecks_that_do_not_fit(data, root, command, reason):
    write_images(data, 6, {3: command})
    (data / "b" / "copy.png").write_bytes(encoded(3, command))
    done = fill(
        data, root, dtype="float16", config=ExtractConfig(executor="inline", batch_size=2, shard_size=9)
    )
    assert (done.forwarded, done.reused, done.failures) == (5, 0, 2)
    for failure in only_cache(root).failures():
        assert failure.reason.endswith(reason)
    assert fill(data, root, dtype="float16").failures == 2


# The command line


def test_command__a_second_run_reads_no_file_and_loads_no_tensorflow(data, root):
    write_images(data, 12)
    prepare(root)
    time.sleep(2.1)  # so that the state of the files is relied on
    first = run_command(*extract_arguments(data, root, *ARGUMENTS))
    assert first[0] == 0 and "12 forwarded" in first[1], first
    code, out, error = run_command(*extract_arguments(data, root, *ARGUMENTS))
    assert (code, error) == (0, "tensorflow=False\n")
    assert "12 images in " in out and "0 forwarded, 12 reused" in out


def test_extract__memory_per_image_is_that_of_a_small_table(data, root, young_files_trusted):
    count = 10_000
    write_images(data, 2)
    for number in range(2, count):  # links to one image: nothing but the table grows
        os.link(data / "a" / "000000.png", data / "ab"[number % 2] / f"{number:06}.png")
    fill(data, root, ExtractConfig(executor="inline", batch_size=8))
    dataset, request = Dataset.open(data), requested(root)
    tracemalloc.start()
    done = extract(dataset, request, root, ExtractConfig(engine="extraction_support:BrokenEngine"))[1]
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

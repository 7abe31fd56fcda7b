"""What an image of a large data set costs, when there is nothing to do: memory, and questions to the disk."""

import gc
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from extraction_support import extract_arguments, fill, only_cache, prepare, write_images

from fastcls import files
from fastcls.cache import index, samples
from fastcls.cache.samples import FileState, SampleRow, SampleTable, file_states
from fastcls.cache.shard import ShardWriter
from fastcls.cli.main import cli
from fastcls.data.dataset import Dataset, Sample
from fastcls.data.digests import repeated
from fastcls.extraction import coverage
from fastcls.extraction.coverage import ViewedDataset, find_coverage
from fastcls.specs import ViewSpec
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

BYTES_PER_IMAGE = 400
opened = []
sys.addaudithook(lambda event, arguments: event == "open" and opened.append(arguments[0]))


def make_dataset(root, count):
    """Images that are records of one file: so many files would take long to write."""
    numbers = range(count)
    rows = (Sample(f"x.tfrecord#{number:012d}", (number % 3,), "train") for number in numbers)
    return Dataset(root, ("a", "b", "c"), tuple(rows), source=root)


def fill_by_hand(root, data, count):
    """A prepared cache that has a row of each image, and knows them all."""
    prepare(root)
    data.mkdir(exist_ok=True)
    (data / "x.tfrecord").write_bytes(b"")
    cache, state = only_cache(root), FileState.of(data / "x.tfrecord")
    digests = [files.digest(b"%d" % number) for number in range(count)]
    for start in range(0, count, 1000):
        attributes = {"fingerprint": cache.manifest.fingerprint}
        with ShardWriter(cache.shards_folder, cache.manifest.shape, "float32", attributes) as writer:
            part = digests[start : start + 1000]
            writer.append(part, np.zeros((len(part), *cache.manifest.shape), np.float32))
            writer.finish()
    viewed = ViewedDataset(make_dataset(data, count), ViewSpec())
    pairs = zip(viewed.dataset.samples, digests, strict=True)
    names = viewed.dataset.names_of
    rows = [SampleRow(sample.path, names(sample), "train", "", digest, state) for sample, digest in pairs]
    viewed.served_by(cache).listing.write(viewed.report({}), rows, [])


def peak_of_plan(root, data, count):
    """Bytes that the data set and what is known of it take at most, beyond what was there before."""
    gc.collect()
    tracemalloc.start()
    try:
        viewed = ViewedDataset(make_dataset(data, count), ViewSpec())
        found = find_coverage(viewed, viewed.served_by(only_cache(root)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(found.rows), found.missing, found.is_new) == (count, [], False)
    return peak


def test_plan__memory_of_an_image_is_bounded(tmp_path, monkeypatch):
    # As small beside the number of images as they are beside a million.
    for module in (index, coverage, samples):
        monkeypatch.setattr(module, "_BLOCK", 512)
    peaks = {}
    for count in (5_000, 20_000):
        data, root = tmp_path / f"data-{count}", tmp_path / f"cache-{count}"
        fill_by_hand(root, data, count)
        peaks[count] = peak_of_plan(root, data, count)
    assert (peaks[20_000] - peaks[5_000]) / 15_000 < BYTES_PER_IMAGE


@pytest.mark.usefixtures("young_files_trusted")
def test_extract__again_looks_at_each_file_once_and_opens_none(data, root, monkeypatch, capsys):
    write_images(data, 300)
    fill(data, root)
    looks, stat = [], os.stat

    def counted(path, *arguments, **options):
        looks.append(path)
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", counted)
    opened.clear()
    cli([*map(str, extract_arguments(data, root))], standalone_mode=False)
    assert "0 forwarded, 300 reused" in capsys.readouterr().out
    assert sum(str(path).endswith(".png") for path in looks) == 300
    assert len(opened) > 1 and not [path for path in opened if str(path).endswith(".png")]


def test_file_states__a_file_is_looked_at_as_it_is_and_waited_for_in_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_BLOCK", 20)
    paths = [f"{number:03}.png" for number in range(400)]
    for path in paths[:-1]:
        (tmp_path / path).write_bytes(path.encode())
    paths += [str(tmp_path / "000.png"), "b.tfrecord#000000000000", "b.tfrecord#000000000010"]
    (tmp_path / "b.tfrecord").write_bytes(b"record")
    expected = [FileState.of(tmp_path / path.split("#")[0]) for path in (*paths[:399], *paths[400:])]
    expected.insert(399, FileState())  # it is not there
    quick = file_states(tmp_path, paths)
    stat, threads = os.stat, set()

    def slow(*arguments, **options):
        threads.add(threading.get_ident())
        time.sleep(0.001)
        return stat(*arguments, **options)

    monkeypatch.setattr(os, "stat", slow)
    waited = file_states(tmp_path, paths)
    assert len(threads) > 4
    assert [FileState(*state) for state in quick.tolist()] == expected
    assert np.array_equal(quick, waited)


def test_file_states__a_time_that_no_64_bits_hold_is_unknown(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(b"b")
    known = os.stat(tmp_path / "b.png")  # noqa: PTH116

    class Strange:
        st_size, st_mtime_ns, st_ctime_ns = 1, 1 << 70, 0

    monkeypatch.setattr(os, "stat", lambda path: Strange if str(path).endswith("a.png") else known)
    states = file_states(tmp_path, ["a.png", "b.png"])
    assert states.tolist() == [[0, 0, 0], [known.st_size, known.st_mtime_ns, known.st_ctime_ns]]


def rows_of(count, task):
    """Lines of a table with all that its cells may hold."""
    names = [("a",), ("b",)] if task is ONE_LABEL else [(), ("a", "b"), ('"', "x\ry")]
    return [
        SampleRow(
            f"{number:05}\r.png" if number % 7 == 0 else f'{number:05},"é\udcff.png',
            names[number % len(names)],
            ("train", "val", "")[number % 3],
            f"group {number}" if number % 5 == 0 else "",
            files.digest(b"%d" % (number // 2)) if number % 4 else "",
            FileState(number, -number, 2**62) if number % 3 else FileState(),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("task", [ONE_LABEL, SEVERAL_LABELS], ids=str)
@pytest.mark.parametrize("known", [0, 40, 70])
def test_sample_table__is_the_rows_it_was_made_of(tmp_path, monkeypatch, task, known):
    monkeypatch.setattr(samples, "_BLOCK", 8)
    monkeypatch.setattr("fastcls.data.csv_table._BLOCK", 8)
    rows = rows_of(70, task)
    table = SampleTable.of(rows)
    assert table == rows and [*table] == rows and table[-1] == rows[-1] and table[3:5] == rows[3:5]
    assert table.take([5, 2]) == [rows[5], rows[2]]
    samples.write_samples(Path(tmp_path / "x.csv"), rows, task)
    read = samples.read_samples(tmp_path / "x.csv", task, [row.path for row in rows[70 - known :]])
    assert read == table and read == rows
    for place, row in enumerate(rows):
        changed = table.copy()
        changed.note(place, files.digest(b"other"), row.state)
        assert changed != table and changed != rows
    twice = {row.digest for row in rows if row.digest and sum(row.digest == r.digest for r in rows) > 1}
    assert {rows[place].digest for place in repeated(table.digests)} == twice

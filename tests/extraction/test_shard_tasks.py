"""How work is divided, and that copies of an image stay together."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from extraction_support import (
    ENGINE,
    EXECUTORS_HERE,
    by,
    cached_rows,
    encoded,
    expected_rows,
    fill,
    forwarded,
    only_cache,
    prepare,
    requested,
    write_images,
)

from fastcls.data.dataset import Dataset
from fastcls.data.writers.tfrecord import write_tfrecords
from fastcls.extraction.extractor import extract
from fastcls.extraction.shard_tasks import Wanted, Work
from fastcls.specs import ExtractConfig, ViewSpec


def tasks(missing, size, batch_size, workers):
    images = [Wanted(f"{number}.png", digest=f"{number:032}") for number in range(missing)]
    return Work(Path("/data"), images, ViewSpec()).tasks(size, batch_size, workers)


def test_tasks__every_image_once_in_order_and_fairly():
    numbers = random.Random(5)
    for _ in range(500):
        missing, workers = numbers.randint(0, 3000), numbers.randint(0, 20)
        batch_size, batches = numbers.choice([1, 7, 8, 64]), numbers.randint(1, 40)
        size = batch_size * batches
        made = tasks(missing, size, batch_size, workers)
        paths = [image.path for task in made for image in task.images]
        assert paths == [f"{number}.png" for number in range(missing)]
        counts = [len(task.images) for task in made]
        assert all(0 < count <= size for count in counts)
        assert all(count % batch_size == 0 for count in counts[:-1])
        # As few rounds as there can be, and nobody has a batch more per round than a fair share.
        rounds = math.ceil(missing / (size * max(1, workers)))
        assert len(made) <= rounds * max(1, workers)
        share = math.ceil(math.ceil(missing / batch_size) / max(1, rounds * max(1, workers)))
        assert not counts or math.ceil(counts[0] / batch_size) == share


@pytest.mark.parametrize(
    ("asked", "counts"),
    [
        ((0, 256, 8, 4), []),
        ((1, 256, 8, 4), [1]),
        ((1000, 256, 8, 2), [256, 256, 256, 232]),
        ((300, 256, 8, 2), [152, 148]),
        ((520, 256, 8, 2), [136, 136, 136, 112]),
        ((20, 5, 8, 2), [5, 5, 5, 5]),  # a shard smaller than a batch is the user's wish
    ],
)
def test_tasks__as_many_images_for_each_worker(asked, counts):
    made = tasks(*asked)
    assert [len(task.images) for task in made] == counts
    assert {task.root for task in made} <= {Path("/data")}


# Copies


def write_copies(folder, distinct, copies, size=None):
    """Copies of each image, far from each other by their names; of `size` bytes each, if that is given."""
    for copy in range(copies):
        for number in range(distinct):
            path = folder / "ab"[number % 2] / f"{copy}-{(7 * number + copy) % distinct:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            data = encoded(number)
            path.write_bytes(data + bytes((size or len(data)) - len(data)))
    return Dataset.open(folder)


@pytest.mark.parametrize("size", [None, 400])  # some as large as others, or all
@pytest.mark.parametrize("executor", EXECUTORS_HERE)
@pytest.mark.parametrize("shard_size", [1, 3, 8])
def test_extract__copies_of_an_image_are_forwarded_once(data, root, executor, shard_size, size):
    dataset = write_copies(data, 16, 3, size)
    config = by(executor, batch_size=1, shard_size=shard_size)
    done = fill(data, root, config)
    assert (done.forwarded, done.reused, done.failures) == (16, 32, 0)
    assert sorted(forwarded(root)) == list(range(16)) and len(only_cache(root).index()) == 16
    rows, pixels_of = cached_rows(root), {encoded(number): number for number in range(16)}
    assert len(rows) == 48
    for path, row in rows.items():
        number = pixels_of[(dataset.root / path).read_bytes()[: len(encoded(0))]]
        assert (row == expected_rows([number])[0]).all()


def test_extract__copies_of_known_images_and_of_other_views(data, root, young_files_trusted):
    write_images(data / "train", 12)
    fill(data, root, ExtractConfig(executor="inline", batch_size=1, shard_size=2))
    write_copies(data / "val", 16, 2)
    views = ViewSpec(3, "flip")
    config = ExtractConfig(executor="inline", batch_size=1, shard_size=4)
    done = extract(Dataset.open(data), requested(root), root, replace(config, engine=ENGINE), views=views)[1]
    assert done.rows == 2 * 12 + 4  # of 4 images all is new, of the others the views to train on
    index = only_cache(root).index()
    assert len(index) == len(set(index.digests)) == 3 * 12 + 4


def test_extract__copies_in_tfrecords(data, root, tmp_path):
    dataset = write_copies(data, 16, 3)
    write_tfrecords(dataset, tmp_path / "packed", shards=4)
    prepare(root)
    config = ExtractConfig(executor="inline", batch_size=1, shard_size=8)
    packed = Dataset.open(tmp_path / "packed")
    done = extract(packed, requested(root), root, replace(config, engine=ENGINE))[1]
    assert (done.images, done.forwarded, done.reused) == (48, 16, 32)


def test_tasks__the_order_of_files_stays_but_for_copies(tmp_path):
    names = ["a1", "b2", "c1", "d3", "e2", "f", "g1"]  # numbers: as many bytes
    for place, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([place]) * int(name[1:] or 9))
    images = [Wanted(name) for name in [*names, "nowhere", "nowhere else"]]
    (task,) = Work(tmp_path, images, ViewSpec()).tasks(100, 1, 1)
    found = [image.path for image in task.images]
    assert found == ["a1", "c1", "g1", "b2", "e2", "d3", "f", "nowhere", "nowhere else"]
    assert task.joined == {1, 2, 4}
    first, second = task.halves()
    assert first.images + second.images == task.images
    assert (len(first.images), first.joined, second.joined) == (3, {1, 2}, {1})
    assert [len(half.images) for half in (*first.halves(), *second.halves())] == [1, 2, 3, 3]
    # What is larger than a task is read: here nothing is a copy of anything.
    tasks = Work(tmp_path, images, ViewSpec()).tasks(1, 1, 1)
    assert [image.path for task in tasks for image in task.images] == [image.path for image in images]


def test_tasks__a_million_images_take_little(tmp_path):
    import tracemalloc

    count = 100_000
    images = [Wanted(f"{number:06}", digest=f"{number // 2:032}") for number in range(count)]
    work = Work(tmp_path, images, ViewSpec())
    tracemalloc.start()
    tasks = work.tasks(512, 8, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(len(task.images) for task in tasks) == count and peak / count < 250

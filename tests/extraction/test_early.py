"""Workers that start before the trunk is there, and read the first images: never seen in a result."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from extraction_support import (
    ABORT,
    fill,
    living,
    only_cache,
    prepare,
    start_command,
    wait_until,
    write_images,
)

from fastcls.data.dataset import Dataset
from fastcls.data.decoder import pixel_rule
from fastcls.engines.devices import has_driver
from fastcls.extraction import early
from fastcls.extraction.early import early_executor
from fastcls.extraction.executors.inline import InlineExecutor
from fastcls.extraction.executors.processes import ProcessExecutor
from fastcls.extraction.read_ahead import EarlyImages, ReadAhead
from fastcls.extraction.shard_tasks import ShardTask, Wanted
from fastcls.extraction.worker import Worker, WorkerSpec
from fastcls.machine import cores
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, ViewSpec

RULE = pixel_rule((8, 8))
ENGINE = "extraction_support:PixelEngine"


def order_of(dataset, paths=None, rule=RULE, most_bytes=1 << 20):
    root = dataset.root.absolute()
    paths = tuple(sample.path for sample in dataset.samples) if paths is None else paths
    return ReadAhead(root, paths, rule, None, most_bytes, 2, ENGINE)


def job(dataset, root, size):
    """Tasks of so many images each, and the spec of workers for a cache that is prepared."""
    prepare(root)
    cache = only_cache(root)
    paths = [sample.path for sample in dataset.samples]
    tasks = [
        ShardTask(dataset.root.absolute(), tuple(map(Wanted, paths[start : start + size])), ViewSpec())
        for start in range(0, len(paths), size)
    ]
    return tasks, WorkerSpec((cache.folder,), cache.trunk_path, 1, 1, ENGINE)


def made_by(executor, dataset, root):
    """What an executor makes of a data set: the rows of each shard, and what was read of each task."""
    tasks, spec = job(dataset, root, 5)
    infos = [info for (info,) in executor.run(tasks, spec, 2, lambda images: None)]
    index = only_cache(root).index()
    rows = index.locate(index.digests.astype(str).tolist()).read()
    found = [path.name for path in index.shards], index.digests.tolist(), index.row.tolist(), rows.tobytes()
    # How old a file was when it was read decides whether its state is relied on.
    read = [[replace(reading, state=None) for reading in info.readings] for info in infos]
    return found, sorted(
        (info.path.name, info.forwarded, each) for info, each in zip(infos, read, strict=True)
    )


def read_whole(order):
    """What a worker has when it was left to read all."""
    images = EarlyImages(order)
    images._thread.join()
    return images


def test_an_image_that_was_read_is_not_read_again(data, root):
    dataset = write_images(data, 12)
    images = read_whole(order_of(dataset))
    (task,), spec = job(dataset, root, 12)
    for sample in dataset.samples:
        (dataset.root / sample.path).unlink()
    (info,) = Worker(spec, lambda images: None, images.take).run(task)
    assert (info.forwarded, [reading.reason for reading in info.readings]) == (12, [""] * 12)
    (again,) = Worker(spec, lambda images: None, images.take).run(task)
    assert again.forwarded == 0  # once


@pytest.mark.parametrize("rule", [pixel_rule((9, 9)), pixel_rule((8, 8), full_decode=True)])
def test_pixels_of_another_rule_are_not_used(data, root, rule):
    dataset = write_images(data, 3)
    images = read_whole(order_of(dataset, rule=rule))
    path = dataset.samples[0].path
    assert images.take(dataset.root.absolute(), path, RULE) is None
    assert images.take(dataset.root.absolute().parent, path, rule) is None
    assert images.take(dataset.root.absolute(), path, rule) is not None


def test_what_is_held_is_bounded(data):
    dataset = write_images(data, 9)
    images = read_whole(order_of(dataset, most_bytes=4 * 3 * 8 * 8 + 1))
    root = dataset.root.absolute()
    assert [images.take(root, s.path, RULE) is None for s in dataset.samples] == [False] * 4 + [True] * 5


@pytest.mark.parametrize("guess", ["right", "swapped", "of others", "one worker more"])
def test_the_shards_are_those_without_a_guess(data, tmp_path, guess):
    dataset = write_images(data, 23)
    (data / "a" / "broken.png").write_bytes(b"not an image")
    dataset = Dataset.open(data)
    paths = tuple(sample.path for sample in dataset.samples)
    shares = {
        "right": [paths[:5] + paths[10:15], paths[5:10]],
        "swapped": [paths[5:10], paths[:5]],
        "of others": [("gone.png",), ()],
        "one worker more": [paths[10:], paths, paths[:5]],
    }[guess]
    executor = ProcessExecutor()
    executor.read_ahead([order_of(dataset, share) for share in shares])
    made = made_by(executor, dataset, tmp_path / "early")
    assert made == made_by(InlineExecutor(), dataset, tmp_path / "plain")


def test_a_worker_that_dies_while_it_reads_ahead_is_replaced(data, root):
    dataset = write_images(data, 12, {3: ABORT})
    executor = ProcessExecutor()
    executor.read_ahead([order_of(dataset)])
    os.kill(executor._early[0]._process.pid, signal.SIGKILL)
    executor._early[0]._process.wait()
    tasks, spec = job(dataset, root, 4)
    infos = [info for (info,) in executor.run(tasks, spec, 1, lambda images: None)]
    reasons = [reading.reason for info in infos for reading in info.readings if reading.reason]
    assert len(reasons) == 1 and "crashes the worker: killed by SIGABRT" in reasons[0]
    assert len(only_cache(root).index()) == 11


@pytest.fixture
def begun(monkeypatch):
    """What workers are told to read, on a machine where that is of use."""
    orders = []
    monkeypatch.setattr(early, "cores", lambda: 2)
    monkeypatch.setattr(early, "has_driver", lambda: False)
    monkeypatch.setattr(ProcessExecutor, "read_ahead", lambda self, told: orders.append(told))
    return orders


def own_model(size=(8, 8)):
    return CutSpec(BaseSpec("model.keras", size=size))


@pytest.mark.parametrize("workers", [1, 3])
def test_each_image_is_read_by_one_worker_where_there_is_no_cache(data, root, begun, workers):
    dataset = write_images(data, 200)
    with early_executor(dataset, [own_model()], root, ExtractConfig(workers=workers)):
        (orders,) = begun
    assert len(orders) == workers and {order.rule for order in orders} == {RULE}
    paths = [path for order in orders for path in order.paths]
    assert sorted(paths) == sorted(sample.path for sample in dataset.samples)


@pytest.mark.parametrize(
    ("cut", "config", "is_dry"),
    [
        (own_model(), ExtractConfig(), True),
        (own_model(), ExtractConfig(executor="inline"), False),
        (own_model(size=None), ExtractConfig(), False),  # only the model would tell it
        (CutSpec(BaseSpec("no such base")), ExtractConfig(), False),
    ],
)
def test_nothing_starts_early(data, root, begun, cut, config, is_dry):
    with early_executor(write_images(data, 9), [cut], root, config, is_dry=is_dry):
        assert begun in ([], [[]])


def test_with_a_cache_a_worker_starts_early_only_where_there_are_new_images(data, root, begun):
    cut = prepare(root)
    with early_executor(write_images(data, 9), [cut], root):
        assert sum(len(order.paths) for order in begun.pop()) == 9
    fill(data, root)
    begun.clear()
    with early_executor(Dataset.open(data), [cut], root):
        assert begun == [[]]
    with early_executor(write_images(data, 10), [cut], root):
        assert [order.paths for order in begun[1]] == [()]


def is_worker(process):
    try:
        return b"extraction.worker" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:  # it has ended
        return False


@pytest.mark.skipif(cores() < 2 or has_driver(), reason="nothing starts early here")
@pytest.mark.parametrize("end", ["refused", signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_command(data, root, end):
    write_images(data, 130)
    token = f"{os.getpid()}-early-{end}"
    layer = ("--cut", "no such layer") if end == "refused" else ()
    command = ("extract", data, "--base", "mobilenetv2", "--weights", "random", "--cache", root, *layer)
    process = start_command(*command, token=token)
    assert wait_until(lambda: any(map(is_worker, living(token))), 60)
    if end != "refused":
        process.send_signal(end)
    _, err = process.communicate(timeout=120)
    assert process.returncode == {"refused": 1, signal.SIGINT: 130, signal.SIGKILL: -9}[end], err
    assert wait_until(lambda: not living(token))
    assert not any(root.rglob(".tmp-*"))

"""Every row once per epoch, in a new order each time, from memory or from the shards."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from fastcls.errors import CacheError
from fastcls.specs import TrainConfig
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.cached import Feeder
from fastcls.training.rows.selection import select

STREAMED = {"memory_bytes": 0}


@pytest.fixture(params=["memory", "streamed"])
def options(request, monkeypatch):
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 37)  # 37 rows of 16 floats
    monkeypatch.setattr(feeder, "_RUN_BYTES", 64 * 5)
    return STREAMED if request.param == "streamed" else {}


def test_blocks__hold_every_row_once_with_its_label(make_cache, options):
    cache, features, labels = make_cache(300)
    data = select(cache, TrainConfig()).train
    rows, classes = _epoch(Feeder(data, 32, seed=1, **options))
    expected = data.rows.read()
    order = np.lexsort(rows.T)
    np.testing.assert_array_equal(rows[order], expected[np.lexsort(expected.T)])
    label_of = {row.tobytes(): label for row, label in zip(features, labels, strict=True)}
    assert [label_of[row.tobytes()] for row in rows] == classes.tolist()


def test_blocks__order_is_new_each_epoch_and_the_same_for_a_seed(make_cache, options):
    data = select(make_cache(300)[0], TrainConfig()).train
    one, other = Feeder(data, 32, seed=1, **options), Feeder(data, 32, seed=1, **options)
    first, second = _epoch(one, 1)[0], _epoch(one, 2)[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(second, _epoch(other, 2)[0])
    np.testing.assert_array_equal(first, _epoch(other, 1)[0])
    assert not np.array_equal(first, _epoch(Feeder(data, 32, seed=2, **options))[0])


def test_blocks__without_seed_keep_the_order(make_cache, options):
    data = select(make_cache(300)[0], TrainConfig()).val
    np.testing.assert_array_equal(_epoch(Feeder(data, 32, None, **options))[0], data.rows.read())


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("count", [20, 300])
def test_blocks__order_is_the_same_from_memory_and_from_shards(make_cache, options, balanced, views, count):
    data = select(make_cache(count, views=views)[0], TrainConfig()).train
    for epoch in (1, 2):
        kept, streamed = (
            _epoch(Feeder(data, 32, 1, memory, balanced=balanced), epoch) for memory in (1 << 30, 0)
        )
        np.testing.assert_array_equal(kept[0], streamed[0])
        np.testing.assert_array_equal(kept[1], streamed[1])


def test_blocks__order_does_not_depend_on_the_shards(make_cache, options):
    found = [
        _epoch(Feeder(select(make_cache(300, shard=shard)[0], TrainConfig()).train, 32, 1, **options))[0]
        for shard in (50, 70)
    ]
    np.testing.assert_array_equal(*found)


def test_blocks__streamed_rows_are_well_mixed(make_cache, options):
    data = select(make_cache(3000, shard=500)[0], TrainConfig()).train
    stored = {row.tobytes(): place for place, row in enumerate(data.rows.read())}
    places = np.array([stored[row.tobytes()] for row in _epoch(Feeder(data, 32, 3, **options))[0]])
    # Neighbors in the epoch come from all over the cache.
    assert np.abs(np.diff(places)).mean() > len(places) / 6


def test_blocks__only_the_last_batch_of_a_pass_is_smaller(make_cache, options):
    data = select(make_cache(300)[0], TrainConfig()).train
    sizes = [len(order) for _, _, order in Feeder(data, 32, 0, **options).blocks()]
    assert sum(sizes) == len(data) and all(size % 32 == 0 for size in sizes[:-1])


def test_blocks__read_ahead_leaves_the_present_block_as_it_is(make_cache, monkeypatch):
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 37)
    data = select(make_cache(300)[0], TrainConfig()).train
    found = []
    for rows, _, _ in Feeder(data, 32, 0, memory_bytes=0).blocks():
        time.sleep(0.01)  # the next is read meanwhile
        found.append(np.array(rows))
    assert len(found) > 2
    rows, expected = np.concatenate(found), data.rows.read()
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_blocks__a_damaged_shard_stops_the_reading(make_cache, options):
    data = select(make_cache(300)[0], TrainConfig()).train
    fed = Feeder(data, 32, 0, memory_bytes=0)
    _epoch(fed)
    path, row = data.rows.shards[data.rows.shard[0]], data.rows.take(np.arange(1)).read()
    path.write_bytes(path.read_bytes().replace(row.tobytes(), (row + 1).tobytes()))
    with pytest.raises(CacheError, match=f"{path} is damaged"):
        _epoch(fed)
    path.unlink()
    with pytest.raises(CacheError, match=f"{path} is damaged"):
        _epoch(fed)


@pytest.mark.parametrize(
    ("gpus", "free", "kept"), [(["gpu"], 4000, False), ([], 4000, True), (["gpu"], None, True)]
)
def test_feeder__counts_memory_where_rows_stay(make_cache, monkeypatch, gpus, free, kept):
    data = select(make_cache(300)[0], TrainConfig()).train
    monkeypatch.setattr("tensorflow.config.list_logical_devices", lambda kind: gpus)
    monkeypatch.setattr(feeder, "gpu_memory", lambda: free)
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 32)
    assert (len([*Feeder(data, 32, 1).blocks()]) == 1) is kept


def test_feeder__keeps_a_few_blocks_of_rows_in_memory(make_cache, monkeypatch):
    count, width, block = 4000, 512, 1 << 18
    data = select(make_cache(count, shape=(width,), shard=1000)[0], TrainConfig()).train
    monkeypatch.setattr(feeder, "BLOCK_BYTES", block)
    monkeypatch.setattr(feeder, "_RUN_BYTES", block // 16)
    tracemalloc.start()
    try:
        fed = Feeder(data, 32, 1, memory_bytes=4 * block)
        assert sum(len(order) for _, _, order in fed.blocks()) == len(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 4 * width * len(data) > 20 * block
    assert peak < 4 * block


def _epoch(fed: Feeder, epoch: int = 1) -> tuple[np.ndarray, np.ndarray]:
    passed = fed.blocks(epoch)
    blocks = [(np.asarray(rows)[order], np.asarray(labels)[order]) for rows, labels, order in passed]
    return np.concatenate([rows for rows, _ in blocks]), np.concatenate([labels for _, labels in blocks])

"""Shards of one task, that several machines make in parts: every row is there once."""

import functools

import numpy as np
import pytest

from fastcls.cache import named_shards
from fastcls.cache.index import Index
from fastcls.cache.named_shards import find_named, give_name
from fastcls.cache.shard import ShardWriter

FINGERPRINT = "f" * 32


def write(folder, name, numbers):
    """The rows of some images, as one machine makes them."""
    attributes = {"fingerprint": FINGERPRINT}
    with ShardWriter(folder, (2,), "float32", attributes) as writer:
        rows = np.repeat(np.float32(numbers)[:, None], 2, axis=1)
        writer.append([f"{number:032x}" for number in numbers], rows)
        return writer.finish(functools.partial(give_name, name, FINGERPRINT))


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_a_task_in_any_order_give_every_row_once(tmp_path, seed):
    chance = np.random.default_rng(seed)
    count = int(chance.integers(1, 9))
    for number in range(5):
        part = chance.permutation(count)[: chance.integers(1, count + 1)].tolist()
        write(tmp_path, f"task-{number}" if number % 2 else "task", part)
    write(tmp_path, "task", range(count))  # by a machine that was stopped for a while
    digests = np.concatenate([*find_named(tmp_path, "task", FINGERPRINT).values()]).tolist()
    assert sorted(digests) == [b"%032x" % number for number in range(count)]
    index = Index.read(tmp_path, FINGERPRINT)
    rows = index.locate([f"{number:032x}" for number in range(count)]).read()
    assert rows[:, 0].tolist() == [*range(count)]


def test_a_shard_without_a_new_row_is_not_written(tmp_path):
    whole = write(tmp_path, "task", [1, 2, 3])
    assert write(tmp_path, "task-0", [3, 1]) == whole
    assert [*tmp_path.iterdir()] == [whole]


@pytest.mark.parametrize("others", [[1, 2, 3], [3, 1], [1, 2, 3, 4], [5]])
def test_a_shard_that_another_machine_completes_at_the_same_time(tmp_path, monkeypatch, others):
    publish = named_shards.publish

    def after_another(temporary, place):
        monkeypatch.setattr(named_shards, "publish", publish)
        write(tmp_path, "task", others)
        return publish(temporary, place)

    monkeypatch.setattr(named_shards, "publish", after_another)
    write(tmp_path, "task", [1, 2, 3])
    digests = np.concatenate([*find_named(tmp_path, "task", FINGERPRINT).values()]).tolist()
    assert sorted(digests) == [b"%032x" % number for number in sorted({1, 2, 3, *others})]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".h5"] * (
        1 if {*others} >= {1, 2, 3} else 2
    )

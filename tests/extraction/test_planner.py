import math
import random
from pathlib import Path

import pytest

from fastcls.extraction.tasks import Wanted, Work
from fastcls.specs import ViewSpec


def tasks(missing, size, batch_size, workers):
    images = [Wanted(f"{number}.png") for number in range(missing)]
    return Work(Path("/data"), images, ViewSpec()).tasks(size, batch_size, workers)


def test_tasks__every_image_once_in_order_and_fairly():
    numbers = random.Random(5)
    for _ in range(2000):
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

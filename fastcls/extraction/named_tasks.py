"""Shard tasks that are the same on every machine, whatever is missing when it plans: they have names.

They are made of all images of a data set, in its order, and are as large whoever runs them. What a machine
lacks of a task is marked in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fastcls import files
from fastcls.cache.samples import file_states
from fastcls.extraction.filling import Filling
from fastcls.extraction.shard_tasks import ShardTask, Wanted, Work

# As many tasks as this share a small data set, as long as they have this many rows.
_TASKS = 64
_FEWEST_ROWS = 64
_NS = 1_000_000_000


def named_tasks(filling: Filling, size: int) -> list[ShardTask]:
    """The shard tasks of a data set.

    Args:
        filling: What has to be forwarded.
        size: Rows per task at most, unless one image has more.

    Returns:
        All of them. An image has `caches` where this machine knows that those lack a row of it.
    """
    rows, views = filling.filled[0].coverage.rows, filling.work.views
    counts = {split: views.of_split(split) for split in {*rows.splits}}
    wanted = [
        Wanted(path, counts[split], counts[split], ())
        for path, split in zip(rows.paths, rows.splits, strict=True)
    ]
    work = Work(filling.work.root, wanted, views)
    fair = max(_FEWEST_ROWS, math.ceil(work.rows / _TASKS))
    tasks = work.tasks(min(size, fair), 1, 1)
    fingerprints = [target.cache.manifest.fingerprint for target in filling.filled]
    states = dict(zip(rows.paths, file_states(work.root, rows.paths).tolist(), strict=True))
    lacking = {image.path: image for image in filling.work.images}
    return [
        replace(
            task,
            images=tuple(lacking.get(image.path, image) for image in task.images),
            name=_name(task, fingerprints, states),
        )
        for task in tasks
    ]


def _name(task: ShardTask, fingerprints: Sequence[str], states: Mapping[str, Sequence[int]]) -> str:
    """What decides the rows of a task: its images as the files are now, their views, and the caches.

    Times are those of modification in seconds, which copies of a data set can have in common.
    """
    told = [*fingerprints, task.views.augment, str(task.views.view_seed)]
    for image in task.images:
        size, changed_ns, _ = states[image.path]
        told += [image.path, str(size), str(changed_ns // _NS), str(image.views)]
    return files.digest("\0".join(told).encode("utf-8", "surrogateescape"))

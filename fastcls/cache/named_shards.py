"""Shards that are named by their task, which may be run twice at once: the rows of the first stay.

NAME.h5              of a task
NAME-PART.h5         of a half of it
NAME-CONTENT.h5      of a task that has made other rows before
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from fastcls import files
from fastcls.cache.shard import content_name, read_digests
from fastcls.cache.shard_copies import copy_rows
from fastcls.errors import CacheError
from fastcls.published import publish


def find_named(folder: Path, name: str, fingerprint: str) -> dict[Path, np.ndarray]:
    """The shards of a task, with their digests; damaged ones count as absent.

    Args:
        folder: Where shards are.
        name: What the task is called, or a part of it: NAME-PART.
        fingerprint: What the shards must have been made with.
    """
    whole, found = name.partition("-")[0], {}
    entries = os.listdir(folder) if folder.exists() else ()  # noqa: PTH208 (of thousands)
    for entry in sorted(entries):
        if entry.startswith(whole) and entry[len(whole)] in ".-" and entry.endswith(".h5"):
            with contextlib.suppress(CacheError):
                found[folder / entry] = read_digests(folder / entry, fingerprint)
    return found


def give_name(name: str, fingerprint: str, temporary: Path, folder: Path, digests: np.ndarray) -> Path:
    """Give a shard the first name that is free, without those of its rows that are in shards of its task.

    Args:
        name: That of its task, or of a part of it.
        fingerprint: What the shards are made with.
        temporary: The shard.
        folder: Where the others are.
        digests: Of its rows, (N,) S32.

    Returns:
        Where its rows are.
    """
    place = folder / f"{name}.h5"
    while True:  # until no other has been first
        known = find_named(folder, name, fingerprint)
        new = np.flatnonzero(~np.isin(digests, np.concatenate([*known.values(), digests[:0]])))
        if not len(new):
            return next(iter(known))
        if len(new) < len(digests):  # another machine has halved the task
            temporary, digests = copy_rows(temporary, fingerprint, new, temporary.parent), digests[new]
        if place in known:
            place = folder / f"{name}-{content_name(digests)}.h5"
        if publish(temporary, place):
            return place
        if place not in find_named(folder, name, fingerprint):  # it is damaged
            files.put(temporary, place)
            return place

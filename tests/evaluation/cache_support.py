"""A cache written by hand: rows of known images, no image file, no trunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from manifest_support import some_manifest

from fastcls import files
from fastcls.cache.listing import Report
from fastcls.cache.manifest import Manifest
from fastcls.cache.samples import Failure, SampleRow
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache
from fastcls.tasks import task_of


def write_cache(
    root: Path,
    features: np.ndarray,
    names: Sequence[tuple[str, ...]],
    *,
    splits: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    failures: Sequence[Failure] = (),
    name: str = "data",
    data: str = "/nowhere/data",
    shard: int = 50,
    absent: Sequence[int] = (),
    quality: np.ndarray | None = None,
) -> Cache:
    """Write a data set into the cache under `root`, which is made where it is not there.

    Args:
        root: Folder of the cache's folder.
        features: (N, ...) rows; images of the same digest share the last one.
        names: The classes of each image.
        splits: Of each image; by default 7 of 10 "train", 2 "val" and 1 "test".
        digests: Of each image; by default all differ.
        groups: Of each image; by default none.
        failures: Images that could not be read; their rows are left out.
        name: The data set's name.
        data: Where it is said to be.
        shard: Rows per shard.
        absent: Places of images that have no row.
        quality: (N, Q) what was measured of the images; by default nothing.
    """
    count, shape = len(features), features.shape[1:]
    splits = splits or ["test" if p % 10 == 9 else "val" if p % 10 > 6 else "train" for p in range(count)]
    digests = digests or [files.digest(f"{data}/{place}".encode()) for place in range(count)]
    cache = next(
        iter([Cache(folder) for folder in root.glob("*-*")] or [Cache.create(root, manifest(shape))])
    )
    failed = {failure.path for failure in failures}
    rows = [
        SampleRow(f"{place:04}.png", own, split, group, digest)
        for place, (own, split, group, digest) in enumerate(
            zip(names, splits, groups or [""] * count, digests, strict=True)
        )
    ]
    kept = {
        row.digest: place
        for place, row in enumerate(rows)
        if place not in absent and row.path not in failed and row.digest
    }
    keys = [*kept]
    for start in range(0, len(keys), shard):
        part = keys[start : start + shard]
        with ShardWriter(
            cache.shards_folder, shape, "float32", {"fingerprint": cache.manifest.fingerprint}
        ) as writer:
            places = [kept[key] for key in part]
            measured = None if quality is None else [*quality[places]]
            writer.append(part, features[places].astype(np.float32), measured)
            writer.finish()
    served = cache.serving(name, Path(data), is_asked=True)
    served.listing.write(Report(data=data, root=data, task=task_of(names)), rows, [*failures])
    return served


def manifest(shape: tuple[int, ...]) -> Manifest:
    """What is known of a cache of such rows."""
    return some_manifest(files.digest(f"{shape}".encode()), shape)

"""Caches made by hand: rows of known classes, no image, no trunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from manifest_support import some_manifest
from training_support import write_listing

from fastcls import files
from fastcls.cache.manifest import Manifest
from fastcls.cache.samples import SampleRow
from fastcls.cache.shard import ShardWriter
from fastcls.cache.store import Cache
from fastcls.data.views import row_key
from fastcls.specs import ViewSpec
from fastcls.tasks import SEVERAL_LABELS

MakeCache = Callable[..., tuple[Cache, np.ndarray, np.ndarray]]


@pytest.fixture
def multi_label_cache(make_cache: MakeCache) -> tuple[Cache, np.ndarray, np.ndarray]:
    """A cache of images of none to all of three classes: (cache, features (N, 16), targets (N, 3))."""
    cache, features, _ = make_cache(200, shard=80)
    directions = np.random.default_rng(7).normal(size=(16, 3))
    targets = (features @ directions > (1.0, 3.0, 5.0)).astype(np.int64)  # the last is rare
    rows = [
        replace(row, labels=tuple(f"class {label}" for label in np.flatnonzero(has)))
        for row, has in zip(cache.samples(), targets, strict=True)
    ]
    write_listing(cache, rows, task=SEVERAL_LABELS)
    return cache, features, targets


@pytest.fixture
def make_cache(tmp_path: Path) -> MakeCache:
    """Returns a function that makes a cache: (cache, features (N, ...), labels (N,))."""

    def make(
        count: int = 120,
        *,
        shape: tuple[int, ...] = (16,),
        classes: int = 3,
        shard: int = 50,
        seed: int = 0,
        spread: float = 0.7,
        views: int = 1,
    ) -> tuple[Cache, np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        labels = np.arange(count) % classes
        centers = random.normal(size=(classes, *shape)) * spread
        features = (centers[labels] + random.normal(size=(count, *shape))).astype(np.float32)
        cache = Cache.create(tmp_path / "caches", _manifest(shape, seed))
        digests = [files.digest(f"{seed}/{place}".encode()) for place in range(count)]
        for start in range(0, count, shard):
            stop = min(count, start + shard)
            with ShardWriter(
                cache.shards_folder, shape, "float32", {"fingerprint": cache.manifest.fingerprint}
            ) as writer:
                keys, rows = _views(digests[start:stop], features[start:stop], views)
                writer.append(keys, rows)
                writer.finish()
        splits = [
            "test" if place % 10 == 9 else "val" if place % 10 > 6 else "train" for place in range(count)
        ]
        rows = [
            SampleRow(f"{place:04}.png", (f"class {label}",), split, digest=digest)
            for place, (label, split, digest) in enumerate(zip(labels, splits, digests, strict=True))
        ]
        write_listing(cache, rows, views=ViewSpec(views))
        return cache, features, labels

    return make


def _views(digests: list[str], features: np.ndarray, views: int) -> tuple[list[str], np.ndarray]:
    """Keys and rows of all views, image by image; view k is the feature plus 10 k."""
    keys = [row_key(digest, ViewSpec(views), number) for digest in digests for number in range(views)]
    rows = features.repeat(views, axis=0)
    numbers = np.tile(np.arange(views), len(digests)).reshape(-1, *[1] * (features.ndim - 1))
    return keys, rows + (10 * numbers).astype(np.float32)


def _manifest(shape: tuple[int, ...], seed: int) -> Manifest:
    return some_manifest(files.digest(f"{shape}{seed}".encode()), shape)

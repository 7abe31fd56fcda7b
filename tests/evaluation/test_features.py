"""The rows of a data set in a cache."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from cache_support import write_cache

from fastcls.cache.samples import Failure
from fastcls.cache.store import Cache
from fastcls.errors import CacheError
from fastcls.evaluation.features import Features, features_of_run, listing_of
from fastcls.evaluation.from_cache import CachedRun
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS
from fastcls.used_images import UsedImage, UsedImages

RANDOM = np.random.default_rng(3)


def test_features__are_the_rows_of_the_table_in_its_order(tmp_path):
    rows = RANDOM.normal(size=(120, 5)).astype(np.float32)
    names = [(f"class {place % 3}",) for place in range(120)]
    cache = write_cache(tmp_path, rows, names)
    for place in (cache, cache.folder, tmp_path):
        features = Features.of(place)
        np.testing.assert_array_equal(features.rows, rows)
        assert features.paths == tuple(row.path for row in cache.samples())
        assert features.digests.tolist() == [row.digest for row in cache.samples()]
        np.testing.assert_array_equal(features.labels, np.arange(120) % 3)
    assert (features.task, features.class_names) == (ONE_LABEL, ("class 0", "class 1", "class 2"))
    assert (features.missing, features.failures, features.name) == (0, (), "data")


def test_features__average_maps_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr("fastcls.evaluation.features._BLOCK_BYTES", 4 * 2 * 3 * 4 * 7)  # seven maps at once
    maps = RANDOM.normal(size=(60, 2, 3, 4)).astype(np.float32)
    names = [("a",), ("a", "b"), ()] * 20
    features = Features.of(write_cache(tmp_path, maps, names))
    np.testing.assert_allclose(features.rows, maps.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)
    assert (features.rows.dtype, features.task) == (np.float32, SEVERAL_LABELS)
    np.testing.assert_array_equal(features.labels[:3], [[1, 0], [1, 1], [0, 0]])


def test_features__say_what_has_no_row(tmp_path):
    rows = RANDOM.normal(size=(30, 4))
    failed = [Failure("0003.png", "", "truncated")]
    cache = write_cache(tmp_path, rows, [("a",), ("b",)] * 15, failures=failed, absent=(5, 8))
    features = Features.of(cache)
    assert (len(features), features.missing, features.failures) == (27, 2, tuple(failed))
    assert {"0003.png", "0005.png", "0008.png"}.isdisjoint(features.paths)
    np.testing.assert_array_equal(features.rows, np.delete(rows, [3, 5, 8], axis=0).astype(np.float32))
    for shard in cache.shards_folder.glob("*.h5"):
        shard.unlink()
    with pytest.raises(CacheError, match="no bottleneck of the 30 images of data"):
        Features.of(cache)


def test_features__take_and_part_keep_all_columns_together(tmp_path):
    rows = RANDOM.normal(size=(30, 4))
    groups = [f"{place // 2}" for place in range(30)]
    features = Features.of(write_cache(tmp_path, rows, [("a",), ("b",)] * 15, groups=groups))
    places = [7, 2, 29]
    taken = features.take(places)
    assert taken.paths == ("0007.png", "0002.png", "0029.png")
    assert taken.groups == ("3", "1", "14")
    np.testing.assert_array_equal(taken.rows, features.rows[places])
    np.testing.assert_array_equal(taken.labels, features.labels[places])
    assert {*features.part("val", "test").splits} == {"val", "test"}
    assert len(features.part("train")) == 21
    assert features.take(np.array(features.splits) == "train").paths == features.part("train").paths
    assert len(features.take([])) == 0


def test_features__of_one_of_several_data_sets(tmp_path):
    rows = RANDOM.normal(size=(30, 4))
    write_cache(tmp_path, rows, [("a",), ("b",)] * 15, name="one", data="/nowhere/one")
    write_cache(tmp_path, rows[:20], [("c",), ("d",)] * 10, name="two", data="/nowhere/two")
    assert Features.of(tmp_path, "two").class_names == ("c", "d")
    with pytest.raises(CacheError, match="several data sets"):
        Features.of(tmp_path)
    with pytest.raises(CacheError, match="no data set 'three'"):
        Features.of(Cache.find(tmp_path), "three")


def test_listing_of__is_the_latest_where_several_have_all_of_the_images_in_their_classes(
    tmp_path, monkeypatch
):
    """Photos that were moved are listed again under another name, and so are those that are to be labeled."""
    rows, digests = RANDOM.normal(size=(30, 4)), [f"{place:032}" for place in range(30)]
    named, renamed, unlabeled = [("x",), ("y",)] * 15, [("x",), ("z",)] * 15, [()] * 30
    for day, name, names in (
        (1, "a", named),
        (3, "b", named),
        (2, "c", named),
        (4, "d", renamed),
        (5, "e", unlabeled),
    ):
        monkeypatch.setattr("time.gmtime", lambda day=day: (2026, 1, day, 0, 0, 0, 0, day, 0))
        cache = write_cache(tmp_path, rows, names, name=name, digests=digests)
    known = zip(named, digests, strict=True)
    images = [UsedImage("moved.jpg", labels, "train", digest) for labels, digest in known]
    assert listing_of(cache, images).name == "b"
    assert listing_of(cache, [replace(image, labels=("gone",)) for image in images]).name == "e"


def test_listing_of__is_not_a_larger_data_set_with_more_classes(tmp_path, monkeypatch):
    rows, digests = RANDOM.normal(size=(30, 4)), [f"{place:032}" for place in range(30)]
    labels = [("x",), ("y",), ("z",)] * 10
    few = [place for place, names in enumerate(labels) if names != ("z",)]
    for day, name, places in ((1, "few", few), (2, "all", range(30))):
        monkeypatch.setattr("time.gmtime", lambda day=day: (2026, 1, day, 0, 0, 0, 0, day, 0))
        own = [labels[place] for place in places], [digests[place] for place in places]
        cache = write_cache(tmp_path, rows[[*places]], own[0], name=name, digests=own[1])
    images = [UsedImage("1.jpg", labels[place], "train", digests[place]) for place in few[:15]]
    assert listing_of(cache, images).name == "few"
    assert listing_of(cache, [*images, UsedImage("2.jpg", ("z",), "train", digests[2])]).name == "all"


def test_features_of_run__finds_its_data_set_and_the_part_of_each_image(tmp_path, monkeypatch):
    rows = RANDOM.normal(size=(30, 4))
    names = [("a",), ("b",)] * 15
    write_cache(tmp_path, rows[:20], names[:20], name="another", data="/nowhere/another")
    cache = write_cache(tmp_path, rows, names)
    samples = cache.samples()
    images = [UsedImage(row.path, row.labels, "refit", row.digest) for row in samples[4:9]]
    run = SimpleNamespace(used=UsedImages(tuple(images)))
    source = CachedRun(run, Cache(cache.folder))
    monkeypatch.setattr("fastcls.evaluation.features.require_cache", lambda *_: source)
    features = features_of_run(run)
    assert (features.name, len(features)) == ("data", 30)
    assert features.uses == ("",) * 4 + ("refit",) * 5 + ("",) * 21

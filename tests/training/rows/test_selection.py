"""What a head is trained on, and what it refuses to be trained on."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_support import write_listing

from fastcls import files
from fastcls.backend import import_keras
from fastcls.cache.samples import Failure, FileState
from fastcls.data.tfrecord import join_address
from fastcls.errors import CacheError, DataError, OptionError
from fastcls.specs import TrainConfig
from fastcls.training.rows.selection import select


def test_select__takes_rows_and_labels_of_each_split(make_cache):
    cache, features, labels = make_cache()
    chosen = select(cache, TrainConfig())
    splits = np.array([row.split for row in cache.samples()])
    assert chosen.class_names == ("class 0", "class 1", "class 2")
    np.testing.assert_array_equal(chosen.train.rows.read(), features[splits == "train"])
    np.testing.assert_array_equal(chosen.train.labels, labels[splits == "train"])
    np.testing.assert_array_equal(chosen.val.rows.read(), features[splits == "val"])


def test_select__never_takes_a_test_row(make_cache):
    cache, _, _ = make_cache()
    for config in (TrainConfig(), TrainConfig(val=0.3), TrainConfig(val=0.0)):
        chosen = select(cache, config)
        used = len(chosen.train) + (len(chosen.val) if chosen.val else 0)
        assert used <= sum(row.split != "test" for row in cache.samples())


def test_select__refuses_a_partial_cache_unless_told(make_cache):
    cache, _, _ = make_cache()
    next(cache.shards_folder.glob("*.h5")).unlink()
    with pytest.raises(CacheError, match=r"partial: \d+ of 120 images .* extract.*--allow-partial"):
        select(cache, TrainConfig())
    assert len(select(cache, TrainConfig(allow_partial=True)).train) < 84


def test_select__an_unreadable_image_does_not_make_a_cache_partial(make_cache):
    cache, _, _ = make_cache()
    rows = cache.samples()
    write_listing(cache, [replace(rows[0], digest=""), *rows[1:]])
    write_listing(cache, None, [Failure(rows[0].path, "", "truncated")])
    assert len(select(cache, TrainConfig()).train) == 83


def test_select__refuses_changed_images_but_not_absent_ones(make_cache, tmp_path: Path):
    cache, _, _ = make_cache()
    write_listing(cache, root=str(tmp_path))
    image = tmp_path / "0000.png"
    image.write_bytes(b"one")
    rows = cache.samples()
    write_listing(
        cache, [replace(rows[0], digest=files.file_digest(image), state=FileState.of(image)), *rows[1:]]
    )
    config = TrainConfig(allow_partial=True)
    select(cache, config)
    os.utime(image, ns=(1, 1))
    select(cache, config)  # touched, but the bytes are those that were extracted
    image.write_bytes(b"two")
    with pytest.raises(CacheError, match=r"stale: 1 image .*'0000.png'"):
        select(cache, config)
    select(cache, replace(config, allow_stale=True))
    image.unlink()
    select(cache, config)


def test_select__an_image_whose_state_told_nothing_is_read(make_cache, tmp_path: Path):
    cache, _, _ = make_cache()
    (tmp_path / "0000.png").write_bytes(b"one")
    first, *rows = cache.samples()
    config = TrainConfig(allow_partial=True)
    for data, is_stale in ((b"one", False), (b"two", True)):
        changed = replace(first, digest=files.digest(data), state=FileState())
        write_listing(cache, [changed, *rows], root=str(tmp_path))
        with pytest.raises(CacheError, match="stale: 1 image") if is_stale else contextlib.nullcontext():
            select(cache, config)


def test_select__a_tfrecord_file_that_is_written_anew_is_stale(make_cache, tmp_path):
    cache, _, _ = make_cache()
    file = tmp_path / "a.tfrecord"
    import_keras()
    import tensorflow as tf

    def write(*images):
        with tf.io.TFRecordWriter(str(file)) as writer:
            for image in images:
                encoded = tf.train.Feature(bytes_list=tf.train.BytesList(value=[image]))
                features = tf.train.Features(feature={"image/encoded": encoded})
                writer.write(tf.train.Example(features=features).SerializeToString())

    write(b"one")
    write_listing(cache, root=str(tmp_path))
    first, *rows = cache.samples()
    address = join_address("a.tfrecord", 0)
    described = replace(first, path=address, digest=files.digest(b"one"), state=FileState.of(file))
    write_listing(cache, [described, *rows])
    config = TrainConfig(allow_partial=True)  # there is no bottleneck of "one"
    select(cache, config)
    os.utime(file, ns=(1, 1))
    select(cache, config)  # touched, but the record is the one that was extracted
    for images in ((b"two",), ()):
        write(*images)
        with pytest.raises(CacheError, match=r"stale: 1 image .*'a\.tfrecord#0"):
            select(cache, config)
    file.unlink()
    select(cache, config)


def test_select__without_validation_part_asks_how_to_proceed(make_cache):
    cache, _, _ = make_cache()
    write_listing(cache, [replace(row, split="") for row in cache.samples()])
    with pytest.raises(DataError, match=r"no validation part.*--val 0.2.*--val 0"):
        select(cache, TrainConfig())
    assert select(cache, TrainConfig(val=0.0)).val is None
    divided = select(cache, TrainConfig(val=0.25))
    assert (len(divided.train), len(divided.val)) == (90, 30)
    assert np.bincount(divided.val.labels).tolist() == [10, 10, 10]


def test_select__refuses_data_without_a_training_part(make_cache):
    cache, _, _ = make_cache()
    write_listing(cache, [replace(row, split="test") for row in cache.samples()])
    for config in (TrainConfig(), TrainConfig(val=0.0), TrainConfig(val=0.2)):
        with pytest.raises(DataError, match=r"no training part. Received: test \(120 images\)\. Add images"):
            select(cache, config)


def test_read__takes_the_name_of_a_part(make_cache):
    cache, _, _ = make_cache()
    for split in (np.array(["train", "val"]), ["train"], 1):
        with pytest.raises(OptionError, match=r"split must be the name of one, or None\. Received: "):
            cache.read(split)


def test_select__a_carved_validation_part_does_not_tear_groups(make_cache):
    cache, _, _ = make_cache()
    rows = [replace(row, split="", group=f"{place // 6}") for place, row in enumerate(cache.samples())]
    write_listing(cache, rows)
    chosen = select(cache, TrainConfig(val=0.3))
    places = {(s, r): place for place, (s, r) in enumerate(_places(cache))}
    sides = [
        {rows[places[key]].group for key in zip(part.rows.shard, part.rows.row, strict=True)}
        for part in (chosen.train, chosen.val)
    ]
    assert not sides[0] & sides[1]


def test_select__refuses_a_class_without_training_image(make_cache):
    cache, _, _ = make_cache()
    rows = cache.samples()
    write_listing(cache, [replace(row, labels=("rare",)) if row.split == "test" else row for row in rows])
    with pytest.raises(
        DataError,
        match=r"No images to train on for: rare\. Received for rare: \d+ images in test\. Move some",
    ):
        select(cache, TrainConfig())
    write_listing(cache, [replace(row, labels=("only",)) for row in rows])
    with pytest.raises(DataError, match=r"at least two classes.*only"):
        select(cache, TrainConfig())


def _places(cache):
    rows = cache.index().locate([row.digest for row in cache.samples()])
    return list(zip(rows.shard, rows.row, strict=True))

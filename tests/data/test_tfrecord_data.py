"""Data sets in TFRecord files: the same as the folder or CSV that they were made of; those of others."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from fastcls.backend import import_keras
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.data.splitter import split
from fastcls.data.writers import tfrecord
from fastcls.data.writers.csv import write_csv
from fastcls.data.writers.split import write_split
from fastcls.data.writers.tfrecord import write_tfrecords
from fastcls.errors import DataError, OptionError
from fastcls.specs import SplitSpec
from fastcls.tasks import SEVERAL_LABELS

import_keras()
import tensorflow as tf  # noqa: E402 (after import_keras, which keeps it quiet)

KEYS = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/class/label": tf.io.FixedLenFeature([], tf.int64),
    "image/class/text": tf.io.FixedLenFeature([], tf.string),
    "image/filename": tf.io.FixedLenFeature([], tf.string),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("tulip", "rose", "größe 7"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "photos" / name / f"{number}.jpg").write_bytes(f"{name} {number}".encode())
    return tmp_path / "photos"


def described(dataset: Dataset) -> list[tuple]:
    """What a data set says of each image, whatever its place."""
    return sorted(
        (image_bytes.digest(dataset.locate(s)), dataset.names_of(s), s.split, s.group)
        for s in dataset.samples
    )


def write(path: Path, *examples: dict) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for features in examples:
            lists = {
                name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
                if values and isinstance(values[0], int)
                else tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
                for name, values in features.items()
            }
            features = tf.train.Features(feature={f"image/{name}": made for name, made in lists.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


def image(text: str, number: int | None = None) -> dict:
    numbers = {} if number is None else {"class/label": [number]}
    return {"encoded": [f"{text} {number}".encode()], "class/text": [text.encode()], **numbers}


def test_a_folder_a_csv_and_tfrecords_are_the_same_data(photos, tmp_path):
    spec = SplitSpec(val=0.2, test=0.2)
    write_split(Dataset.open(photos), tmp_path / "split", spec)
    folder = Dataset.open(tmp_path / "split")
    write_csv(folder, tmp_path / "tables" / "a.csv")
    write_tfrecords(folder, tmp_path / "packed", 2)
    table, packed = Dataset.open(tmp_path / "tables" / "a.csv"), Dataset.open(tmp_path / "packed")
    assert described(folder) == described(table) == described(packed)
    assert folder.class_names == table.class_names == packed.class_names == ("größe 7", "rose", "tulip")
    assert packed.splits == ("train", "val", "test")
    # The choice of a split depends on the bytes of the images alone.
    write_tfrecords(Dataset.open(photos), tmp_path / "unsplit")
    divided = split(Dataset.open(tmp_path / "unsplit"), spec)
    assert described(divided) == described(folder)
    write_csv(divided, tmp_path / "b.csv")
    assert described(Dataset.open(tmp_path / "b.csv")) == described(folder)


def test_write_tfrecords__tensorflow_reads_the_untouched_files(photos, tmp_path):
    dataset = split(Dataset.open(photos), SplitSpec(val=0.2, test=0))
    written = write_tfrecords(dataset, tmp_path / "packed", 3)
    names = sorted(entry.name for entry in (tmp_path / "packed").iterdir())
    shards = [f"{part}-0000{number}-of-00003.tfrecord" for part in ("train", "val") for number in range(3)]
    assert names == sorted(["labels.txt", *shards]) and [shard.name for shard in written] == shards
    assert [shard.count for shard in written] == [8, 8, 8, 2, 2, 2]
    assert (tmp_path / "packed/labels.txt").read_text() == "0:größe 7\n1:rose\n2:tulip\n"
    seen, order = {}, []
    for shard in shards:
        for record in tf.data.TFRecordDataset(str(tmp_path / "packed" / shard)):
            read = {key: value.numpy() for key, value in tf.io.parse_single_example(record, KEYS).items()}
            name = read["image/class/text"].decode()
            assert dataset.class_names[read["image/class/label"]] == name
            place = f"{name}/{read['image/filename'].decode()}"
            seen[place] = (read["image/encoded"], shard.split("-")[0])
            order.append(place)
    assert seen == {s.path: ((photos / s.path).read_bytes(), s.split) for s in dataset.samples}
    assert len({place.split("/")[0] for place in order[:8]}) > 1  # shuffled


def test_write_tfrecords__makes_the_same_bytes_again(photos, tmp_path):
    for name in ("one", "two"):
        write_tfrecords(Dataset.open(photos), tmp_path / name, 2)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_write_tfrecords__chooses_shards_by_size(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_SHARD_BYTES", 100)
    total = sum(path.stat().st_size for path in photos.rglob("*.jpg"))
    assert len(write_tfrecords(Dataset.open(photos), tmp_path / "packed")) == -(-total // 100) > 1


def test_write_tfrecords__keeps_several_labels_and_groups(photos, tmp_path):
    (tmp_path / "a.csv").write_text(
        "path,labels,group\n"
        + "".join(
            f"photos/rose/{n}.jpg,{labels},{group}\n"
            for n, (labels, group) in enumerate([("a|b", "x"), ("b", ""), ("", "x"), ("c", "y")])
        )
    )
    dataset = Dataset.open(tmp_path / "a.csv", label_separator="|")
    write_tfrecords(dataset, tmp_path / "packed", 1)
    write_csv(dataset, tmp_path / "b.csv")
    for made in (Dataset.open(tmp_path / "packed"), Dataset.open(tmp_path / "b.csv")):
        assert made.task is SEVERAL_LABELS and described(made) == described(dataset)
    (record,) = [
        tf.train.Example.FromString(record.numpy()).features.feature
        for record in tf.data.TFRecordDataset(str(tmp_path / "packed" / "images-00000-of-00001.tfrecord"))
        if b"0.jpg" in record.numpy()
    ]
    assert record["image/class/label"].int64_list.value == [0, 1]
    assert record["image/class/text"].bytes_list.value == [b"a", b"b"]


def test_write_tfrecords__images_without_a_split_among_others_are_trained_on(photos, tmp_path):
    dataset = split(Dataset.open(photos), SplitSpec(val=0.2, test=0.2))
    some = [replace(s, split="") if s.split == "train" and "0" in s.path else s for s in dataset.samples]
    write_tfrecords(replace(dataset, samples=tuple(some)), tmp_path / "packed")
    assert described(Dataset.open(tmp_path / "packed")) == described(dataset)


@pytest.mark.parametrize(
    ("shards", "error", "complaint"),
    [
        (11, OptionError, "fewer than --shards 11"),
        (0, OptionError, "shards must be a whole number, 1 or more"),
        (1, DataError, r"tulip/3.jpg' cannot be read: No such file"),
    ],
)
def test_write_tfrecords__leaves_nothing_when_it_cannot(photos, tmp_path, shards, error, complaint):
    dataset = split(Dataset.open(photos), SplitSpec(val=0.2, test=0.2))
    if error is DataError:
        (photos / "tulip/3.jpg").unlink()
    with pytest.raises(error, match=complaint):
        write_tfrecords(dataset, tmp_path / "packed", shards)
    assert [entry.name for entry in tmp_path.iterdir()] == ["photos"]


def test_write_tfrecords__a_full_disk_is_an_error_of_the_system(photos, tmp_path, monkeypatch):
    writer = tf.io.TFRecordWriter
    monkeypatch.setattr(tf.io, "TFRecordWriter", lambda path: writer("/dev/full"))
    with pytest.raises(OSError, match=r"No space left on device: .*tfrecord") as caught:
        write_tfrecords(Dataset.open(photos), tmp_path / "packed", 1)
    assert caught.value.errno == errno.ENOSPC  # which the command line tells in one line
    assert [entry.name for entry in tmp_path.iterdir()] == ["photos"]


def test_write_tfrecords__overwrites_nothing(photos, tmp_path):
    with pytest.raises(OptionError, match="already exists"):
        write_tfrecords(Dataset.open(photos), photos)
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(OptionError, match="already exists"):
        write_csv(Dataset.open(photos), tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (
            ("flowers_train_00000-of-00001.tfrecord", "flowers_validation_00000-of-00001.tfrecord"),
            "train val",
        ),
        (("train-00000-of-00001", "validation-00000-of-00001"), "train val"),
        (("test.tfrecords", "train.tfrecords"), "test train"),
        (("a.tfrecord", "b.tfrec"), " "),
    ],
)
def test_read_tfrecords__takes_the_split_from_the_name(tmp_path, names, splits):
    for number, name in enumerate(names):
        write(tmp_path / "packed" / name, image("rose", 1), image(f"tulip {number}", 2))
    for path in (tmp_path / "packed", tmp_path / "p*d" / "*"):
        dataset = Dataset.open(path)
        assert [s.split for s in dataset.samples] == [part for part in splits.split(" ") for _ in "12"]
    alone = Dataset.open(tmp_path / "packed" / names[0])
    assert [s.path for s in alone.samples] == [s.path for s in dataset.samples[:2]]


def test_read_tfrecords__names_count_and_numbers_that_differ_are_told(tmp_path, caplog):
    write(tmp_path / "packed" / "a.tfrecord", image("rose", 1), image("tulip", 2))
    write(tmp_path / "packed" / "b.tfrecord", image("tulip", 1), image("aster", 0))
    with caplog.at_level(logging.WARNING):
        dataset = Dataset.open(tmp_path / "packed")
    assert dataset.class_names == ("aster", "rose", "tulip")
    assert [dataset.class_names[s.label] for s in dataset.samples] == ["rose", "tulip", "tulip", "aster"]
    assert "1 class with several numbers, such as 'tulip' with 1, 2" in caplog.text


def test_read_tfrecords__numbers_alone_are_named_by_labels_txt(tmp_path):
    examples = [{"encoded": [b"x"], "class/label": [number]} for number in (5, 0, 5)]
    path = write(tmp_path / "packed" / "a.tfrecord", *examples)
    with pytest.raises(
        DataError, match=r"record at 0 of .* has class number 5 without a name.*labels\.txt.*0:daisy"
    ):
        Dataset.open(path)
    (tmp_path / "packed" / "labels.txt").write_text("0:tench: a fish\n5:rose\n")
    dataset = Dataset.open(path)
    assert dataset.class_names == ("rose", "tench: a fish") and [s.label for s in dataset.samples] == [
        0,
        1,
        0,
    ]
    (tmp_path / "packed" / "labels.txt").write_text("tench\nrose\n")
    with pytest.raises(DataError, match="NUMBER:NAME"):
        Dataset.open(path)
    (tmp_path / "packed" / "labels.txt").write_bytes("0:größe\n5:rose\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.txt is not UTF-8"):
        Dataset.open(path)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        ({"train-1.tfrecord": [image("a")], "more.tfrecord": [image("b")]}, "1 of 2 .* name no split: 'more"),
        (
            {"a.tfrecord": [{"encoded": [b"x"]}]},
            r"record at 0 of .* has no class in image/class/text, .*Its keys: image/encoded \(bytes",
        ),
        ({"a.tfrecord": [image("a"), image("a")]}, "has only one class, 'a'"),
        ({"a.tfrecord": []}, "has no class"),
    ],
)
def test_read_tfrecords__refuses(tmp_path, made, complaint):
    for name, examples in made.items():
        write(tmp_path / "packed" / name, *examples)
    with pytest.raises(DataError, match=complaint):
        Dataset.open(tmp_path / "packed")


def test_read_tfrecords__damage_is_named_with_file_and_place(tmp_path):
    path = write(tmp_path / "a.tfrecord", image("rose"), image("tulip"))
    second = Dataset.open(path).samples[1].path
    data = path.read_bytes()
    path.write_bytes(data[:-2])
    with pytest.raises(DataError, match=f"{path} ends inside the record at {int(second.split('#')[1])}"):
        Dataset.open(path)


def test_open__options_of_a_csv_do_not_go_with_tfrecords(tmp_path):
    path = write(tmp_path / "a.tfrecord", image("rose"), image("tulip"))
    with pytest.raises(DataError, match=r"a\.tfrecord is not a CSV"):
        Dataset.open(path, image_root=tmp_path)


def test_split_data__cannot_link_to_records(tmp_path):
    path = write(tmp_path / "a.tfrecord", image("rose"), image("tulip"))
    with pytest.raises(DataError, match=r"inside TFRecord files.*fastcls to-csv"):
        write_split(Dataset.open(path), tmp_path / "out", SplitSpec())
    assert not (tmp_path / "out").exists()


def test_open__a_folder_that_lacks_a_numbered_file_is_refused(photos: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    write_tfrecords(Dataset.open(photos), packed, shards=3)
    (packed / "images-00001-of-00003.tfrecord").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its numbered .*images-00001-of-00003"):
        Dataset.open(packed)
    assert len(Dataset.open(packed / "images-0000*").samples) == 20

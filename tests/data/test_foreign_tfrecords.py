"""TFRecord files as other tools write them: read where the keys are known or named, else refused by name."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from fastcls.backend import import_keras
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.data.writers.csv import write_csv
from fastcls.errors import DataError
from fastcls.inference.inputs import each
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

import_keras()
import tensorflow as tf  # noqa: E402 (after import_keras, which keeps it quiet)

FLOWERS = ("daisy", "rose", "tulip")
PHOTOS = [(f"photo {number}".encode(), number % 3) for number in range(6)]


def feature(value: object) -> tf.train.Feature:
    values = value if isinstance(value, list) else [value]
    if all(isinstance(each, int) for each in values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if all(isinstance(each, float) for each in values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    texts = [each.encode() if isinstance(each, str) else each for each in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))


def write(path: Path, *records: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            features = tf.train.Features(feature={key: feature(value) for key, value in record.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


def described(dataset: Dataset) -> list[tuple[bytes, tuple[str, ...]]]:
    return sorted(
        (image_bytes.read_bytes(dataset.locate(sample)), dataset.names_of(sample))
        for sample in dataset.samples
    )


EXPECTED = sorted((photo, (FLOWERS[number],)) for photo, number in PHOTOS)

# Tool -> name of its file, a record of it, and the file that names its numbers.
LAYOUTS = {
    "slim": ("a_train_00000-of-00001.tfrecord", "image/encoded", "image/class/label", "labels.txt"),
    "Inception": ("train-00000-of-00001", "image/encoded", "image/class/text", ""),
    "TFDS": ("flowers-train.tfrecord-00000-of-00001", "image", "label", "label.labels.txt"),
    "Kaggle": ("00-192x192-6.tfrec", "image", "class", "labels.txt"),
    "FiftyOne": ("tf.records", "image_bytes", "label", ""),
    "Roboflow": ("Flowers.tfrecord", "image/encoded", "image/object/class/text", ""),
    "TensorFlow's tutorial": ("images.tfrecords", "image_raw", "label", "labels.txt"),
    "by key": ("a.tfrecord", "photo/jpeg", "photo/kind", "photo-kind.labels.txt"),
}
NAMES = {
    "labels.txt": "0:daisy\n1:rose\n2:tulip\n",
    "label.labels.txt": "daisy\nrose\ntulip\n",
    "photo-kind.labels.txt": "daisy\nrose\ntulip",
}


@pytest.mark.parametrize("tool", LAYOUTS)
def test_known_layouts_are_the_same_data_set(tool, tmp_path):
    name, image_key, label_key, names = LAYOUTS[tool]
    packed = tmp_path / "packed"
    records = [
        {
            image_key: photo,
            label_key: number if names else FLOWERS[number],
            **{"height": 1, "filename": "a.jpg", "score": 0.5, "mask": b"no image"},
        }
        for photo, number in PHOTOS
    ]
    file = write(packed / name, *records)
    if names:
        (packed / names).write_text(NAMES[names])
    keys = {"image_key": image_key, "label_key": label_key} if tool == "by key" else {}
    for place in (packed, file):
        dataset = Dataset.open(place, **keys)
        assert dataset.task is ONE_LABEL and dataset.class_names == FLOWERS
        assert described(dataset) == EXPECTED
    assert [path for path in each(file, keys.get("image_key"))] == [
        dataset.locate(s) for s in dataset.samples
    ]
    # The table of it needs no keys: each address has that of its image.
    write_csv(dataset, tmp_path / "a.csv")
    assert described(Dataset.open(tmp_path / "a.csv")) == EXPECTED
    sizes = image_bytes.sizes(str(dataset.locate(sample)) for sample in dataset.samples)
    assert list(sizes) == [len(photo) for photo, _ in PHOTOS]


def test_classes_of_objects_are_the_classes_of_their_image(tmp_path, caplog):
    objects = [["cat", "dog", "cat"], ["dog"], []]
    records = [
        {"image/encoded": bytes([n]), "image/object/class/text": names} for n, names in enumerate(objects)
    ]
    dataset = Dataset.open(write(tmp_path / "a.tfrecord", *records))
    assert dataset.task is SEVERAL_LABELS
    assert [names for _, names in described(dataset)] == [("cat", "dog"), ("dog",), ()]
    assert "those of the objects in it (image/object/class/text)" in caplog.text


def test_split_folders_hold_the_files_of_roboflow_and_kaggle(tmp_path):
    for folder in ("train", "valid", "test"):
        records = [{"image": photo + folder.encode(), "label": FLOWERS[number]} for photo, number in PHOTOS]
        write(tmp_path / "data" / folder / "Flowers.tfrecord", *records)
    dataset = Dataset.open(tmp_path / "data")
    assert {s.path.split("/")[0]: s.split for s in dataset.samples} == {
        "train": "train",
        "valid": "val",
        "test": "test",
    }
    assert Dataset.open(tmp_path / "data" / "train").splits == ()


PHOTO = {"image": b"x", "label": "a"}


@pytest.mark.parametrize(
    ("record", "keys", "complaint"),
    [
        (
            {"pixels": b"x", "kind": 3, "score": 0.5},
            {},
            r"record at 0 of .*a\.tfrecord has no image in image/encoded, .* and no class in image/class/text"
            r".*Its keys: kind \(whole numbers\), pixels \(bytes\), score \(floats\)\. .*--image-key and "
            r"--label-key",
        ),
        ({"image": b"x", "kind": "a"}, {}, r"has no class in .*Its keys: image \(bytes\), kind \(bytes\)"),
        (
            PHOTO,
            {"image_key": "photo"},
            r"has no image in photo\. Its keys: image \(bytes\), label \(bytes\)",
        ),
        (PHOTO, {"label_key": "kind"}, r"has no class in kind\. Its keys"),
        ({"image": b"x", "label": 0.5}, {}, r"has no class in .*label \(floats\)"),
        ({"image": [1, 2, 3], "label": "a"}, {}, r"has no image in .*image \(whole numbers\)"),
    ],
)
def test_unknown_keys_are_refused_by_name(record, keys, complaint, tmp_path):
    with pytest.raises(DataError, match=complaint):
        Dataset.open(write(tmp_path / "a.tfrecord", record), **keys)


@pytest.mark.parametrize("name", ["a.tfrecord.gz", "a.tfrecord", "train-00000-of-00001"])
def test_compressed_records_say_how_to_unpack_them(name, tmp_path):
    plain = write(tmp_path / "plain.tfrecord", PHOTO).read_bytes()
    path = tmp_path / "packed" / name
    path.parent.mkdir()
    path.write_bytes(gzip.compress(plain))
    command = f"gunzip -k {path}" if name.endswith(".gz") else f"gunzip < {path} > plain-{name}"
    with pytest.raises(DataError, match=r"compressed|gzip archive") as caught:
        Dataset.open(path)
    assert command in str(caught.value)
    path.with_name("b.tfrecord").write_bytes(zlib.compress(plain))
    with pytest.raises(DataError, match="compressed by zlib; write it uncompressed"):
        Dataset.open(path.with_name("b.tfrecord"))


def test_a_file_of_one_class_says_that_it_is_one_of_several(tmp_path):
    for number in range(2):
        write(tmp_path / f"train-0000{number}-of-00002", {**PHOTO, "label": f"class {number}"})
    assert Dataset.open(tmp_path).class_names == ("class 0", "class 1")
    with pytest.raises(
        DataError, match=f"train-00000-of-00002 has only one class.*name their folder, {tmp_path}"
    ):
        Dataset.open(tmp_path / "train-00000-of-00002")


def test_keys_have_no_effect_on_other_data(tmp_path):
    for name in ("a/1.jpg", "b/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"not a TFRecord file.*--image-key and --label-key"):
        Dataset.open(tmp_path, label_key="kind")
    with pytest.raises(DataError, match="not a TFRecord file: --image-key"):
        list(each(tmp_path, "photo"))

"""Records, checksums and Examples against TensorFlow's own, and what is said of damaged ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from fastcls import files
from fastcls.backend import import_keras
from fastcls.data import image_bytes
from fastcls.data.tf_example import parse_example
from fastcls.data.tfrecord import (
    DamagedRecordError,
    is_tfrecord,
    join_address,
    read_record,
    scan,
    split_address,
)

import_keras()
import tensorflow as tf  # noqa: E402 (after import_keras, which keeps it quiet)

NAMES = ("text", "number", "texts", "numbers", "none")


def write(path: Path, *records: bytes) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def noise(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).tobytes()


def feature(values):
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def example(**features) -> bytes:
    described = {name.replace("__", "/"): feature(values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=described)).SerializeToString()


def test_scan_and_read_record__give_what_tensorflow_wrote(tmp_path):
    records = [noise(count, seed=count) for count in (0, 10, 5000, 0, 300)]
    path = write(tmp_path / "a.tfrecord", *records)
    found = list(scan(path))
    assert [bytes(data) for _, data in found] == records
    assert [read_record(path, place) for place, _ in found] == records
    assert list(scan(write(tmp_path / "empty.tfrecord"))) == []


def test_parse_example__reads_what_tensorflow_wrote():
    record = example(
        text=[b"one"],
        number=[-7],
        texts=[b"", noise(1000), "zwölf".encode()],
        numbers=[0, 1, 127, 128, 2**63 - 1, -(2**63)],
        float=[0.5, 2.0],
        other=[b"not asked for"],
        none=[1.5],
    )
    parsed = parse_example(memoryview(record), NAMES)
    assert {name: [bytes(text) for text in texts] for name, texts in parsed.bytes_lists.items()} == {
        "text": [b"one"],
        "texts": [b"", noise(1000), "zwölf".encode()],
    }
    assert parsed.int64_lists == {"number": [-7], "numbers": [0, 1, 127, 128, 2**63 - 1, -(2**63)]}


def test_parse_example__reads_numbers_that_are_not_packed():
    # Int64List {value: 3, value: 300} as proto2 writers make it: a tag before each.
    numbers = b"\x08\x03\x08\xac\x02"
    listed = b"\x1a" + bytes([len(numbers)]) + numbers
    entry = b"\x0a\x06number" + b"\x12" + bytes([len(listed)]) + listed
    features = b"\x0a" + bytes([len(entry)]) + entry
    record = b"\x0a" + bytes([len(features)]) + features
    assert tf.train.Example.FromString(record).features.feature["number"].int64_list.value == [3, 300]
    assert parse_example(memoryview(record), NAMES).int64_lists == {"number": [3, 300]}


def test_parse_example__damage_is_an_error_and_ends():
    record = example(text=[b"one"], numbers=[1, 300])
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(record[: random.integers(1, len(record) + 1)])
        damaged[random.integers(len(damaged))] = random.integers(256)
        try:
            parse_example(memoryview(bytes(damaged)), NAMES)
        except ValueError:
            refused += 1
    assert refused > 1000


def test_sources__an_image_has_one_digest_wherever_it_is(tmp_path):
    image = noise(3000)
    (tmp_path / "a.jpg").write_bytes(image)
    path = write(tmp_path / "a.tfrecord", b"", example(image__encoded=[image], image__height=[3]))
    (_, _), (place, _) = scan(path)
    address = f"{path}#{place}"
    assert image_bytes.read_bytes(address) == image_bytes.read_bytes(tmp_path / "a.jpg") == image
    assert image_bytes.digest(address) == image_bytes.digest(str(tmp_path / "a.jpg")) == files.digest(image)
    assert image_bytes.stat(address) == image_bytes.stat(path)
    assert image_bytes.stat(path).st_size == path.stat().st_size


@pytest.mark.parametrize(
    "name", ["train-00000-of-00002", "x.tfrecord", "X.TFRecords", "a.tfrec", "a.tfrecord-00000-of-00002"]
)
def test_split_address__knows_the_names_that_tensorflow_uses(name):
    assert is_tfrecord(name)
    assert split_address(f"some/{name}#12") == (f"some/{name}", 12, None)
    for key in (None, "image", "a/b", "a#1:b"):
        assert split_address(join_address(f"some/{name}", 12, key)) == (f"some/{name}", 12, key)
    assert join_address(name, 9999) < join_address(name, 10000)


@pytest.mark.parametrize(
    "path", ["a.jpg#12", "a.tfrecord", "a.tfrecord#", "a.tfrecord#1/b.jpg", "x-of-00002#1"]
)
def test_split_address__leaves_other_paths_alone(path):
    assert split_address(path) == (path, None, None)


def damaged_length(data: bytearray) -> None:
    data[3] ^= 1


def damaged_image(data: bytearray) -> None:
    data[40] ^= 1


def truncated(data: bytearray) -> None:
    del data[-3:]


def cut_in_the_head(data: bytearray) -> None:
    del data[7:]


@pytest.mark.parametrize(
    ("damage", "scanned", "complaint"),
    [
        (damaged_length, False, "not a TFRecord file, or is damaged at 0: no record begins there"),
        (damaged_image, True, "record at 0 of .* is damaged: its checksum does not match"),
        (truncated, False, "ends inside the record at 0: it is truncated"),
        (cut_in_the_head, False, "ends inside the record at 0: it is truncated"),
    ],
)
def test_read_record__damage_is_named(tmp_path, damage, scanned, complaint):
    path = write(tmp_path / "a.tfrecord", example(image__encoded=[noise(300)]))
    data = bytearray(path.read_bytes())
    damage(data)
    path.write_bytes(data)
    with pytest.raises(DamagedRecordError, match=complaint):
        read_record(path, 0)
    if scanned:
        assert len(list(scan(path))) == 1
    else:
        with pytest.raises(DamagedRecordError, match=complaint):
            list(scan(path))


def test_read_record__refuses_a_place_between_records_and_behind_them(tmp_path):
    path = write(tmp_path / "a.tfrecord", noise(300))
    for place in (1, 16, path.stat().st_size, 10**12):
        with pytest.raises(DamagedRecordError, match=str(place)):
            read_record(path, place)


def test_scan__says_that_a_file_is_compressed(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(gzip.compress(write(tmp_path / "b.tfrecord", noise(300)).read_bytes()))
    with pytest.raises(DamagedRecordError, match="it is compressed"):
        list(scan(path))


@pytest.mark.parametrize("record", [example(image__label=[1]), example(image__encoded=[b"1", b"2"]), b"\xff"])
def test_read_bytes__refuses_a_record_without_one_image(tmp_path, record):
    with pytest.raises(
        DamagedRecordError, match=r"record at 0 of .*a\.tfrecord (does not have one image|is not a tf)"
    ):
        image_bytes.read_bytes(f"{write(tmp_path / 'a.tfrecord', record)}#0")

"""to-csv and to-tfrecord, and every command on what they make."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset


@pytest.fixture
def packed(fastcls, photos: Path, tmp_path: Path) -> Path:
    """The photos, divided, in two TFRecord files per split."""
    table = tmp_path / "divided.csv"
    listed = fastcls("to-csv", photos, "--out", table, "--val", 0.2, "--test", 0.1)
    assert listed.code == 0 and f"{table}: 60 images of 3 classes (42 train, 12 val, 6 test)" in listed.out
    made = fastcls("to-tfrecord", table, "--out", tmp_path / "packed", "--shards", 2)
    assert made.code == 0, made.err
    assert "train-00001-of-00002.tfrecord: 21 images, " in made.out
    assert "60 images of 3 classes in 6 files" in made.out
    return tmp_path / "packed"


def test_an_image_is_the_same_in_a_folder_a_csv_and_a_tfrecord(fastcls, photos, base, packed, tmp_path):
    asked = ("--base", base, "--cache", tmp_path / "caches", "--precision", "float32")
    first = fastcls("extract", packed, *asked)
    assert first.code == 0 and ": 60 forwarded, 0 reused" in first.out
    rows = {row.digest: row for row in Cache.find(tmp_path / "caches", "packed").samples()}
    again = fastcls("extract", packed, *asked)
    assert "0 forwarded, 60 reused" in again.out and "workers" not in again.out
    for data in (photos, tmp_path / "divided.csv", packed / "*.tfrecord"):
        result = fastcls("extract", data, *asked)
        assert result.code == 0 and ": 0 forwarded, 60 reused" in result.out
        name = result.out.partition("Listed as ")[2].split()[0]
        found = {row.digest: row for row in Cache.find(tmp_path / "caches", name).samples()}
        assert {digest: row.label for digest, row in found.items()} == {d: r.label for d, r in rows.items()}
        if data != photos:
            assert {d: r.split for d, r in found.items()} == {d: r.split for d, r in rows.items()}


def test_run_test_and_predict__take_tfrecords(fastcls, base, packed, tmp_path):
    run = tmp_path / "run"
    asked = ("--out", run, "--cache", tmp_path / "caches", "--learning-rate", 0.05)
    result = fastcls("run", packed, "--base", base, *asked)
    assert result.code == 0 and "(6 of 6 images)" in result.out, result.err
    tested = fastcls("test", run, packed / "test-*")
    assert tested.code == 0 and "accuracy 1.000 [1.000, 1.000] (6 of 6 images)" in tested.out
    predicted = fastcls("predict", run, packed / "val-00000-of-00002.tfrecord", "--json")
    lines = [json.loads(line) for line in predicted.out.splitlines()]
    dataset = Dataset.open(packed / "val-00000-of-00002.tfrecord")
    names = {str(dataset.locate(s)): dataset.class_names[s.label] for s in dataset.samples}
    assert {line["path"]: line["predictions"][0]["class"] for line in lines} == names and len(names) == 6


def test_extract__lists_a_damaged_record_and_goes_on(fastcls, base, packed, tmp_path):
    path = packed / "train-00000-of-00002.tfrecord"
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT") + 20
    data[place] ^= 1
    path.write_bytes(data)
    asked = ("--base", base, "--cache", tmp_path / "caches")
    result = fastcls("extract", packed, *asked)
    assert result.code == 0 and "59 forwarded, 0 reused, 1 unreadable" in result.out
    assert "train-00000-of-00002.tfrecord#" in result.err and "its checksum does not match" in result.err
    planned = fastcls("run", packed, *asked, "--out", tmp_path / "run", "--dry-run")
    assert planned.code == 0 and ": 0 images to forward" in planned.out, planned.err
    assert "Precision" not in planned.out


def test_a_command_that_was_killed_when_all_was_whole_can_be_given_again(fastcls, photos, packed, tmp_path):
    (packed / ".fastcls-unfinished").touch()
    for command in (
        ("to-csv", photos, "--out", tmp_path / "divided.csv", "--val", 0.2, "--test", 0.1),
        ("to-tfrecord", tmp_path / "divided.csv", "--out", packed, "--shards", 2),
    ):
        before = {path: path.read_bytes() for path in tmp_path.rglob("[!.]*") if path.is_file()}
        result = fastcls(*command)
        assert result.code == 0, result.err
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("[!.]*") if path.is_file()}
    assert not list(tmp_path.rglob(".*"))


def test_to_tfrecord__other_images_of_the_same_number_take_no_place(fastcls, photos, packed, tmp_path):
    record = packed / "val-00000-of-00002.tfrecord"
    record.write_bytes(b"other" + record.read_bytes()[5:])
    before = {path: path.read_bytes() for path in packed.iterdir()}
    result = fastcls("to-tfrecord", tmp_path / "divided.csv", "--out", packed, "--shards", 2)
    assert result.code == 1 and "already exists" in result.err
    assert before == {path: path.read_bytes() for path in packed.iterdir()}


def test_to_csv__paths_hold_wherever_the_table_lies(fastcls, photos, tmp_path):
    table = tmp_path / "some" / "where" / "a.csv"
    assert fastcls("to-csv", photos, "--out", table).code == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60 and list(rows[0]) == ["path", "label", "split", "group"]
    assert all(
        (table.parent / row["path"]).samefile(photos / row["label"] / Path(row["path"]).name) for row in rows
    )
    assert {row["split"] for row in rows} == {""}


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (
            "to-csv {photos} --out {out}/a.csv --seed 3",
            2,
            "no effect with data that is not split",
        ),
        ("to-csv {out}/divided.csv --out {out}/a.csv --val 0.2", 1, "is already split"),
        ("to-csv {photos} --out {out}/divided.csv", 1, "already exists"),
        ("to-csv {out}/none-*.tfrecord --out {out}/a.csv", 1, "does not exist"),
        ("to-tfrecord {photos} --out {out}/packed", 1, "already exists"),
        ("to-tfrecord {photos} --out {out}/a --shards 61", 1, "fewer than --shards 61"),
        ("extract {out}/packed --base {photos} --image-root {photos}", 1, "is not a CSV"),
    ],
)
def test_a_mistake__is_named_and_leaves_nothing(
    fastcls, photos, packed, tmp_path, arguments, code, complaint
):
    before = sorted(tmp_path.rglob("*"))
    result = fastcls(*[part.format(photos=photos, out=tmp_path) for part in arguments.split()])
    assert result.code == code and complaint in result.err and "Traceback" not in result.err
    assert sorted(tmp_path.rglob("*")) == before

"""What is said of a file or folder that was given as a data set but is something else."""

import gzip
import io
import struct
import tarfile
import zipfile

import google_crc32c
import numpy as np
import pytest
from PIL import Image

from fastcls.data.dataset import Dataset
from fastcls.errors import DataError


def encode(file_format):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, file_format)
    return buffer.getvalue()


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/1.jpg", "x")
    return buffer.getvalue()


def tarred(mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo("a/1.jpg"))
    return buffer.getvalue()


def record(data):
    def masked(part):
        crc = google_crc32c.value(part)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("1.jpg", encode("JPEG"), "is a JPEG image. Name the folder that holds its class folder: {root}"),
        ("1.avif", encode("AVIF"), "is an AVIF image. Name the folder that holds its class folder: {root}"),
        ("table.csv", encode("PNG"), "is a PNG image."),
        ("a.zip", zipped(), "is a zip archive. Unpack it first: unzip {file}"),
        ("a.tar.gz", tarred("w:gz"), "is a tar archive. Unpack it first: tar xf {file}"),
        ("a.tar", tarred("w"), "is a tar archive. Unpack it first: tar xf {file}"),
        ("a.csv.gz", gzip.compress(b"path,label"), "is a gzip archive. Unpack it first: gunzip -k {file}"),
        ("records.bin", record(b"x"), "is a TFRecord file by what it holds. Its name must say so: ln -s"),
        ("a.html", b"<!doctype html>", "is a web page (HTML)."),
        ("a.pdf", b"%PDF-1.7", "is a PDF document."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_open__a_file_that_is_no_data_set_says_what_it_is(name, data, told, tmp_path):
    file = tmp_path / "photos" / "rose" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    with pytest.raises(DataError) as caught:
        Dataset.open(file)
    assert told.format(root=tmp_path / "photos", file=file) in str(caught.value)
    assert "a folder of images per class, a table (CSV, JSON Lines, Parquet), or TFRecord" in str(
        caught.value
    )


def test_open__a_class_folder_names_its_parent(tmp_path):
    for name in ("rose/1.jpg", "rose/2.jpg", "tulip/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(
        DataError, match=f"rose has no class folders: it holds 2 images.*parent folder.*: {tmp_path}$"
    ):
        Dataset.open(tmp_path / "rose")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["photos/rose/1.jpg", "photos/tulip/1.jpg"], "the only folder in it .*Name that: {root}/photos$"),
        (
            ["3.0.1/a-train.tfrecord-00000-of-00001"],
            "3.0.1 in it holds TFRecord files. Name that: {root}/3.0.1$",
        ),
        (
            ["a.tfrecord.gz", "labels.txt"],
            "it holds compressed TFRecord files such as .*gunzip -k {root}/a.tfrecord.gz$",
        ),
    ],
)
def test_open__a_folder_beside_the_data_says_where_it_is(names, told, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{tmp_path} has no class folders: " + told.format(root=tmp_path)):
        Dataset.open(tmp_path)


def test_open__one_class_of_nested_images_is_no_folder_of_classes(tmp_path):
    for name in ("rose/2020/1.jpg", "rose/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="has only one class, 'rose'"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("name", ["dataset_info.json", "dataset_dict.json"])
def test_open__what_datasets_saves_to_a_disk_says_what_to_write_instead(name, tmp_path):
    (tmp_path / "train").mkdir()
    for file in (name, "data-00000-of-00001.arrow"):
        (tmp_path / file).write_text("{}")
    with pytest.raises(DataError, match=r"save_to_disk .* Write Parquet .*\.to_parquet"):
        Dataset.open(tmp_path)

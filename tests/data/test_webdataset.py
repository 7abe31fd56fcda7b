"""WebDataset: samples in tar files, on this machine and in a store."""

import io
import json
import logging
import tarfile

import cv2
import numpy as np
import pytest

from fastcls import storage
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.data.readers.webdataset import braces
from fastcls.errors import DataError


def image(number, size=12):
    pixels = np.random.default_rng(number).integers(0, 255, (size, size, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    """Two shards of three images each, with long names, folders and several parts of a sample."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        members = {}
        for n in range(3):
            key = f"deep/{'x' * 120}-{shard}{n}"
            members[f"{key}.png"] = image(10 * shard + n)
            members[f"{key}.cls"] = str(n % 2).encode()
            members[f"{key}.json"] = json.dumps({"species": f"s{n % 2}", "label": 7}).encode()
        write_tar(folder / f"{shard:03}.tar", members)
    return folder


def contents(dataset):
    return [
        (image_bytes.read_bytes(dataset.locate(s)), dataset.names_of(s), s.split) for s in dataset.samples
    ]


def expected(names=("0", "1")):
    return [(image(10 * shard + n), (names[n % 2],), "") for shard in range(2) for n in range(3)]


@pytest.mark.parametrize("given", ["", "*.tar", "{000..001}.tar", "{000,001}.tar"])
def test_samples_are_found_in_folders_and_by_patterns(shards, given):
    dataset = Dataset.open(shards / given)
    assert contents(dataset) == expected()
    paths = [image_bytes.located(dataset.root, s.path) for s in dataset.samples]
    assert list(image_bytes.sizes(paths)) == [len(data) for data, _, _ in expected()]


def test_samples_in_a_store_are_read_once_to_be_found(shards, s3):
    url = s3.bucket() + "/shards"
    for file in sorted(shards.iterdir()):
        storage.send(file, f"{url}/{file.name}")
    for given in (url, f"{url}/{{000..001}}.tar", f"{url}/*.tar", f"{url[:-1]}?/**/0*.tar"):
        dataset = Dataset.open(given)
        assert contents(dataset) == expected() and str(dataset.root) == url
    s3.requests.clear()
    again = Dataset.open(url)
    assert again.samples == dataset.samples
    assert not any(r.startswith("GET") and ".tar" in r and "list-type" not in r for r in s3.requests)
    one = Dataset.open(f"{url}/000.tar")
    assert contents(one) == expected()[:3]


def test_labels_by_key_and_names_of_numbers(shards):
    assert contents(Dataset.open(shards, label_key="species")) == expected(("s0", "s1"))
    (shards / "classes.txt").write_text("cat\ndog\n")
    assert contents(Dataset.open(shards)) == expected(("cat", "dog"))
    (shards / "labels.txt").write_text("0:bee\n")
    with pytest.raises(DataError, match="Class number 1 has no name"):
        Dataset.open(shards)


def test_splits_are_in_the_names_of_files(shards):
    (shards / "000.tar").rename(shards / "train-000.tar")
    (shards / "001.tar").rename(shards / "val-000.tar")
    assert [s.split for s in Dataset.open(shards).samples] == ["train"] * 3 + ["val"] * 3


def test_what_lacks_and_what_is_truncated_is_named(shards, caplog):
    write_tar(
        shards / "002.tar",
        {"a.png": image(1), "a.txt": b"1\n", "b.png": image(2), "c.txt": b"0", "README": b"", ".d.png": b""},
    )
    data = (shards / "001.tar").read_bytes()
    (shards / "001.tar").write_bytes(data[: data.index(image(12)) + 20])
    with caplog.at_level(logging.WARNING):
        dataset = Dataset.open(shards)
    assert "001.tar is no tar file, or is damaged: unexpected end of data" in caplog.text
    assert "4 samples left out: " in caplog.text and "002.tar: b without a label" in caplog.text
    assert "002.tar: c without an image" in caplog.text
    assert contents(dataset) == [*expected()[:5], (image(1), ("1",), "")]


def test_a_member_that_is_cut_after_it_was_listed_is_a_failure(shards):
    dataset = Dataset.open(shards)
    data = (shards / "001.tar").read_bytes()
    (shards / "001.tar").write_bytes(data[: data.index(image(12)) + 20])
    with pytest.raises(OSError, match=r"001\.tar ends inside the member at \d+: it is truncated"):
        image_bytes.read_bytes(dataset.locate(dataset.samples[5]))


def test_other_tar_files_are_refused(tmp_path, shards):
    with pytest.raises(DataError, match=r"is a tar archive\. Unpack it first: tar xf .*WebDataset"):
        Dataset.open(write_tar(tmp_path / "a.tar", {"cat/a.png": image(1), "dog/b.png": image(2)}))
    (tmp_path / "b.tar").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"b\.tar is a tar archive"):
        Dataset.open(tmp_path / "b.tar")
    with pytest.raises(DataError, match=r"1 file missing: .*002\.tar"):
        Dataset.open(shards / "{000..002}.tar")


def test_braces():
    assert braces("a{0..2}{x,y}") == ["a0x", "a0y", "a1x", "a1y", "a2x", "a2y"]
    assert braces("{098..101}") == ["098", "099", "100", "101"] and braces("plain") == ["plain"]

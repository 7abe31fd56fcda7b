"""Data sets whose images are at URLs: found, identified and read like those of a folder."""

import csv
import os
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fastcls import storage
from fastcls.cache.samples import file_states
from fastcls.data import image_bytes
from fastcls.data.dataset import Dataset
from fastcls.data.unlabeled import open_unlabeled
from fastcls.data.writers.csv import write_csv
from fastcls.data.writers.split import plan_split
from fastcls.errors import DataError, GoneError, OptionError, StorageError
from fastcls.specs import SplitSpec
from fastcls.storage import listings
from fastcls.storage.paths import UrlPath, is_pattern, matching


def write_images(root, names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (20 + number, 20, 3), np.uint8)
        assert cv2.imwrite(str(root / name), pixels)


NAMES = [f"{label}/{n} ä.jpg" for label in ("cat", "dog") for n in range(3)]


@pytest.fixture
def photos(tmp_path):
    """A folder of class folders, with what tools leave in such."""
    root = tmp_path / "photos"
    write_images(root, NAMES)
    write_images(root, [".hidden/a.jpg", "cat/.b.jpg"])
    (root / "dog/notes.txt").write_text("x")
    (root / "loose.png").write_bytes((root / NAMES[0]).read_bytes())
    return root


def upload(folder, url):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.send(path, storage.join(url, path.relative_to(folder).as_posix()))
    return url


@pytest.fixture(params=["s3", "memory"])
def url(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3").bucket() + "/photos"
    return f"memory://{tmp_path.name}/photos"


def said(dataset):
    return [(s.path, dataset.names_of(s), s.split, s.group) for s in dataset.samples], dataset.left_out


def test_a_folder_at_a_url_is_read_like_a_local_one(photos, url):
    upload(photos, url)
    local, remote = Dataset.open(photos), Dataset.open(url)
    assert said(remote) == said(local) and remote.name == local.name == "photos"
    assert [image_bytes.read_bytes(remote.locate(s)) for s in remote.samples] == [
        image_bytes.read_bytes(local.locate(s)) for s in local.samples
    ]
    every = [s.path for s in open_unlabeled(photos).samples]
    assert [s.path for s in open_unlabeled(url).samples] == every


def test_parts_metadata_and_split_tables_at_a_url(tmp_path, url):
    parts = tmp_path / "parts"
    write_images(parts, [f"{part}/{name}" for part in ("train", "test") for name in NAMES])
    assert said(Dataset.open(upload(parts, f"{url}/parts"))) == said(Dataset.open(parts))
    listed = tmp_path / "listed"
    write_images(listed, ["images/a.jpg", "images/b.jpg"])
    (listed / "metadata.csv").write_text("file_name,label\nimages/a.jpg,cat\nimages/b.jpg,dog\n")
    assert said(Dataset.open(upload(listed, f"{url}/listed"))) == said(Dataset.open(listed))


def test_a_table_at_a_url_names_images_beside_it_or_anywhere(photos, url, tmp_path, web_server):
    upload(photos, url)
    web_server.files["/x//a.jpg?size=1&b=//c"] = (photos / NAMES[0]).read_bytes()
    far = f"{web_server.address}/x//a.jpg?size=1&b=//c"
    rows = [(NAMES[0], "cat"), (NAMES[4], "dog"), (far, "cat"), (f"{url}/{NAMES[1]}", "cat")]
    table = tmp_path / "list.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    storage.send(table, f"{url}/list.csv")
    by_root = Dataset.open(table, image_root=url)
    beside = Dataset.open(f"{url}/list.csv")
    for dataset in (by_root, beside):
        assert [s.path for s in dataset.samples] == sorted(path for path, _ in rows)
        for sample in dataset.samples:
            image_bytes.read_bytes(dataset.locate(sample))
    table.write_text(f"path,label\n{NAMES[0]},cat\ngone.jpg,dog\n")
    with pytest.raises(GoneError, match="gone"):
        Dataset.open(table, image_root=url)


def test_states_tell_what_has_changed_and_come_by_one_listing(photos, s3):
    url = upload(photos, s3.bucket())
    dataset = Dataset.open(url)
    paths = [sample.path for sample in dataset.samples]
    s3.requests.clear()
    before = file_states(dataset.root, paths)
    assert before.any(axis=1).all() and not s3.requests
    listings.forget()
    assert (file_states(dataset.root, paths) == before).all()
    data, state = image_bytes.read_stated(image_bytes.located(url, paths[0]))
    assert data == (photos / paths[0]).read_bytes() and tuple(state) == tuple(before[0])
    shutil.copy(photos / paths[1], photos / paths[0])
    upload(photos, url)
    listings.forget()
    after = file_states(dataset.root, [*paths, "gone.jpg"])
    assert (after[:-1] == before).all(axis=1).tolist() == [False] + [True] * (len(paths) - 1)
    assert not after[-1].any()


def test_a_listing_does_not_count_for_ever(photos, s3, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(listings, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    dataset = Dataset.open(upload(photos, s3.bucket()))
    paths = [sample.path for sample in dataset.samples]
    before = file_states(dataset.root, paths)
    storage.send(photos / paths[1], storage.join(str(dataset.root), paths[0]))
    clock[0] += 59
    assert (file_states(dataset.root, paths) == before).all()
    clock[0] += 2
    assert (file_states(dataset.root, paths) == before).all(axis=1).tolist() == [False, *[True] * 5]


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "*/*.jpg",
        "cat/[01]*.jpg",
        "**/*.jpg",
        "**",
        "c?t/**",
        "?og/2 *",
        "none/*.jpg",
        ".hidden/*",
        "**/.b*",
    ],
)
def test_patterns_match_at_urls_as_they_do_on_a_disk(photos, url, pattern):
    upload(photos, url)
    local = [path for path in matching(f"{photos}/{pattern}") if path.is_file()]
    found = matching(f"{url}/{pattern}")
    assert [str(path)[len(url) :] for path in found] == [str(path)[len(str(photos)) :] for path in local]
    assert is_pattern(f"{url}/{pattern}") and not is_pattern(f"{url}/{NAMES[0]}")


def test_images_at_urls_are_split_in_a_table(photos, url, tmp_path):
    dataset = Dataset.open(upload(photos, url))
    with pytest.raises(DataError, match="at URLs, to which a folder cannot link"):
        plan_split(dataset, tmp_path / "split", SplitSpec())
    write_csv(dataset, tmp_path / "list.csv")
    listed = Dataset.open(tmp_path / "list.csv")
    assert [s.path for s in listed.samples] == [f"{url}/{s.path}" for s in dataset.samples]


def test_what_is_wrong_with_a_place_is_said(s3, web_server):
    with pytest.raises(StorageError, match="bucket of s3://nobodys/photos does not exist"):
        Dataset.open("s3://nobodys/photos")
    with pytest.raises(GoneError, match="does not exist"):
        Dataset.open(f"{s3.bucket()}/empty")
    with pytest.raises(GoneError, match="does not exist"):
        Dataset.open(f"{web_server.address}/photos/")
    web_server.faults = [403]
    with pytest.raises(StorageError, match=r"list\.csv cannot be fetched: the server answers 403"):
        Dataset.open(f"{web_server.address}/list.csv")


def test_a_url_reads_like_a_path_and_stays_as_it_is():
    url = UrlPath.of("s3://bucket/a//b/c.jpg")
    assert os.fspath(url) == str(url) == "s3://bucket/a//b/c.jpg"
    assert (url.name, url.suffix, str(url.parent / "d")) == ("c.jpg", ".jpg", "s3://bucket/a/b/d")


def test_images_in_parquet_files_at_a_url_are_read_by_row_groups(s3, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pictures = [os.urandom(50_000) for _ in range(40)]
    table = pa.table(
        {
            "image": [{"bytes": data, "path": f"{n}.jpg"} for n, data in enumerate(pictures)],
            "label": ["cat", "dog"] * 20,
        }
    )
    url = s3.bucket() + "/datasets/pets"
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10, compression="none")
    storage.send(tmp_path / "a.parquet", f"{url}/data/train-00000-of-00001.parquet")
    s3.requests.clear()
    dataset = Dataset.open(url)
    assert [s.split for s in dataset.samples] == ["train"] * 40
    assert len(s3.requests) < 20  # the images are not read
    s3.requests.clear()
    read = {n: image_bytes.read_bytes(dataset.locate(dataset.samples[n])) for n in range(10, 20)}
    assert read == {n: pictures[n] for n in range(10, 20)}
    assert len(s3.requests) < 12  # one row group, in one or two parts


def test_data_sets_of_hugging_face_are_read_and_never_written(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from fsspec.implementations.memory import MemoryFileSystem
    from fsspec.registry import _registry

    class Hub(MemoryFileSystem):
        protocol, store, pseudo_dirs = "hf", {}, [""]

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.removeprefix("hf://").strip("/")

    pictures = [{"bytes": os.urandom(100), "path": None} for _ in range(4)]
    pq.write_table(pa.table({"image": pictures, "label": ["cat", "dog"] * 2}), tmp_path / "a.parquet")
    url = "hf://datasets/somebody/pets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_registry, "hf", Hub)
        storage.forget()
        Hub().pipe_file(f"{url}/data/train-00000-of-00001.parquet", (tmp_path / "a.parquet").read_bytes())
        dataset = Dataset.open(url)
        assert [image_bytes.read_bytes(dataset.locate(s)) for s in dataset.samples] == [
            picture["bytes"] for picture in pictures
        ]
        assert {s.split for s in dataset.samples} == {"train"} and dataset.name == "pets"
        with pytest.raises(OptionError, match="read only"):
            storage.send(tmp_path / "a.parquet", f"{url}/a.parquet")
    storage.forget()

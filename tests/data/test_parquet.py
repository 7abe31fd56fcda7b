"""Parquet files: with paths, and with the images themselves as Hugging Face keeps them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fastcls.data import image_bytes, parquet
from fastcls.data.dataset import Dataset
from fastcls.data.splitter import file_digests
from fastcls.errors import DataError, MissingExtraError

CLASSES = ("cat", "dog")
PHOTOS = [
    (f"{name}/{number}.jpg", label, f"{name} {number}".encode())
    for label, name in enumerate(CLASSES)
    for number in range(5)
]


def told(dataset: Dataset) -> set[tuple[str, tuple[str, ...], str]]:
    """Digest, labels and split of each image: what is the same in all layouts."""
    digests = file_digests([dataset.locate(sample) for sample in dataset.samples])
    pairs = zip(digests, dataset.samples, strict=True)
    return {(digest, dataset.names_of(sample), sample.split) for digest, sample in pairs}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, _, data in PHOTOS:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    return tmp_path


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow")


def write(path: Path, arrow, columns, **options) -> Path:
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    features = {"label": {"_type": "ClassLabel", "names": [*CLASSES]}, "image": {"_type": "Image"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(arrow.table(columns).replace_schema_metadata(metadata), path, **options)
    return path


def images(photos=PHOTOS):
    return {
        "image": [{"bytes": data, "path": path} for path, _, data in photos],
        "label": [label for _, label, _ in photos],
    }


def test_paths(root, arrow):
    columns = {"file": [path for path, _, _ in PHOTOS], "label": [label for _, label, _ in PHOTOS]}
    expected = Dataset.open(root)
    assert Dataset.open(write(root / "t.parquet", arrow, columns)) == expected


@pytest.mark.parametrize("size", [1, 3, 100])
def test_images_inside(root, tmp_path, arrow, size):
    table = write(tmp_path / "hf/photos.parquet", arrow, images(), row_group_size=size)
    dataset = Dataset.open(table)
    assert dataset.class_names == CLASSES
    paths = [str(dataset.locate(sample)) for sample in dataset.samples]
    assert [image_bytes.read_bytes(path) for path in reversed(paths)] == [
        data for *_, data in reversed(PHOTOS)
    ]
    assert list(image_bytes.sizes(paths)) == [len(data) for *_, data in PHOTOS]


def test_bytes_alone_and_text_labels(root, tmp_path, arrow):
    columns = {"photo": [data for *_, data in PHOTOS], "class": [CLASSES[label] for _, label, _ in PHOTOS]}
    dataset = Dataset.open(write(tmp_path / "hf/photos.parquet", arrow, columns))
    assert told(dataset) == {
        (digest, (CLASSES[label],), "") for digest, (_, label, _) in zip(_digests(root), PHOTOS, strict=True)
    }


def _digests(root: Path) -> list[str]:
    return file_digests([root / path for path, _, _ in PHOTOS])


@pytest.mark.parametrize("place", ["", "data"])
def test_a_repository_with_parts(root, tmp_path, arrow, place):
    folder = tmp_path / "hf"
    folder.mkdir()
    write(folder / place / "train-00000-of-00002.parquet", arrow, images(PHOTOS[:4]))
    write(folder / place / "train-00001-of-00002.parquet", arrow, images(PHOTOS[4:8]))
    write(folder / place / "test-00000-of-00001.parquet", arrow, images(PHOTOS[8:]))
    expected = {
        (digest, (CLASSES[label],), "train" if place < 8 else "test")
        for place, (digest, (_, label, _)) in enumerate(zip(_digests(root), PHOTOS, strict=True))
    }
    assert told(Dataset.open(folder)) == expected
    assert len(Dataset.open(folder / place / "train-*.parquet").samples) == 8


def test_few_row_groups_are_in_memory(tmp_path, arrow):
    parquet._images.cache_clear()
    table = write(tmp_path / "a.parquet", arrow, images(), row_group_size=1)
    told(Dataset.open(table))
    info = parquet._images.cache_info()
    assert info.currsize <= 2 and info.misses >= len(PHOTOS)


def test_what_is_wrong(root, tmp_path, arrow):
    table = write(root / "a.parquet", arrow, images())
    with pytest.raises(DataError, match="--image-root has no effect"):
        Dataset.open(table, image_root=root)
    address = str(root / "a.parquet#000000000099:image")
    with pytest.raises(OSError, match="has no row 99"):
        image_bytes.read_bytes(address)
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match="is no Parquet file, or is damaged"):
        Dataset.open(table)


def test_the_package_is_named_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"pip install pyarrow"):
        Dataset.open(tmp_path / "a.parquet")

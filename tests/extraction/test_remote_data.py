"""Extraction of images that are at URLs: the same rows as of local ones, whatever the servers do."""

import shutil
import tarfile
import time
from dataclasses import replace

import numpy as np
import pytest
from extraction_support import (
    ENGINE,
    INLINE,
    cached_rows,
    encoded,
    expected_rows,
    forwarded,
    prepare,
    write_images,
)

from fastcls import storage, web
from fastcls.data.dataset import Dataset
from fastcls.extraction.extractor import extract
from fastcls.storage import tries

COUNT = 12


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tries, "_WAIT_S", 0.005)


def fill(data, root, config=INLINE):
    return extract(Dataset.open(data), prepare(root), root, replace(config, engine=ENGINE))


def rows_of(root):
    """Rows by the name of the image's file."""
    return {path.rpartition("/")[2]: row for path, row in cached_rows(root).items()}


def check_rows(root, numbers, suffix=".png"):
    found = rows_of(root)
    assert found.keys() == {f"{number:06}{suffix}" for number in numbers}
    for number, row in zip(numbers, expected_rows(numbers), strict=True):
        np.testing.assert_array_equal(found[f"{number:06}{suffix}"], row)


def test_a_folder_in_a_store_gives_the_rows_of_a_local_one_and_is_read_once(s3, data, root):
    write_images(data, COUNT)
    url = s3.bucket() + "/photos"
    for path in data.rglob("*.png"):
        storage.send(path, f"{url}/{path.relative_to(data).as_posix()}")
    with s3.failing(".png", times=5), s3.failing("list-type", times=1):
        done = fill(url, root)[1]
    assert done.forwarded == COUNT
    check_rows(root, range(COUNT))
    s3.requests.clear()
    again = fill(url, root)[1]
    assert (again.forwarded, again.reused) == (0, COUNT)
    assert not any(".png" in request for request in s3.requests)
    shutil.copy(data / "a/000000.png", data / "a/000002.png")
    storage.send(data / "a/000002.png", f"{url}/a/000002.png")
    s3.requests.clear()
    fill(url, root)
    read = {request.split("?")[0] for request in s3.requests if ".png" in request}
    assert read == {f"GET /{url[5:]}/a/000002.png"}
    assert len(forwarded(root)) == COUNT  # it is a copy of one that is known


def test_images_of_a_list_that_fail_are_named_and_tried_again(web_server, tmp_path, root, monkeypatch):
    monkeypatch.setattr(web, "SILENCE_S", 0.3)
    monkeypatch.setattr(tries, "_LONGEST_S", 0.5)
    for number in range(COUNT):
        web_server.files[f"/{number:06}.png"] = encoded(number)
    web_server.files["/000000.png"] = "/moved.png"  # a redirection
    web_server.files["/moved.png"] = encoded(0)
    web_server.files["/000001.png"] = b"<!DOCTYPE html><p>not found"
    del web_server.files["/000002.png"]
    web_server.waits["/000003.png"] = 2
    lines = [f"{web_server.address}/{number:06}.png,{'ab'[number % 2]}" for number in range(COUNT)]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines))
    started = time.monotonic()
    cache, done = fill(tmp_path / "list.csv", root)
    assert time.monotonic() - started < 20 and done.forwarded == COUNT - 3
    reasons = {failure.path.rpartition("/")[2]: failure.reason for failure in cache.failures()}
    assert "a web page (HTML)" in reasons["000001.png"]
    assert "there is no such object" in reasons["000002.png"] and "no answer" in reasons["000003.png"]
    web_server.files["/000001.png"] = encoded(1)
    web_server.files["/000002.png"] = encoded(2)
    web_server.waits.clear()
    web_server.requests.clear()
    cache, done = fill(tmp_path / "list.csv", root)
    assert done.forwarded == 3 and not cache.failures()
    check_rows(root, range(COUNT))


def test_samples_in_tar_files_of_a_store(s3, tmp_path, root):
    url = s3.bucket() + "/shards"
    (tmp_path / "in").mkdir()
    for number in range(COUNT):
        (tmp_path / f"in/{number:06}.png").write_bytes(encoded(number))
        (tmp_path / f"in/{number:06}.cls").write_text("ab"[number % 2])
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(tmp_path / "in", "")
    storage.send(tmp_path / "0.tar", f"{url}/0.tar")
    assert fill(url, root)[1].forwarded == COUNT
    found = sorted(map(bytes, cached_rows(root).values()))
    assert found == sorted(map(bytes, expected_rows(range(COUNT))))
    assert fill(url, root)[1].forwarded == 0


def test_many_images_are_waited_for_at_once(web_server, tmp_path, root):
    count = 48
    for number in range(count):
        web_server.files[f"/{number:06}.png"] = encoded(number)
        web_server.waits[f"/{number:06}.png"] = 0.15
    lines = [f"{web_server.address}/{number:06}.png,{'ab'[number % 2]}" for number in range(count)]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(lines))
    started = time.monotonic()
    done = fill(tmp_path / "list.csv", root, replace(INLINE, batch_size=8, shard_size=64))[1]
    assert done.forwarded == count
    assert time.monotonic() - started < 0.5 * count * 0.15

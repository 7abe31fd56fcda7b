"""Objects in stores: an S3 server, the memory of fsspec, files, and a web server."""

import errno
import functools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastcls import storage
from fastcls.errors import MissingExtraError, OptionError, StorageError
from fastcls.storage import tries


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tries, "_WAIT_S", 0.005)


@pytest.fixture(params=["s3", "memory", "file"])
def url(request, tmp_path):
    """The URL of an empty folder of a store."""
    if request.param == "s3":
        return request.getfixturevalue("s3").bucket() + "/deep/folder"
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    return f"file://{tmp_path}/store"


@pytest.fixture
def source(tmp_path):
    """Returns a function that makes a file of some bytes."""

    def make(data):
        (tmp_path / "source").write_bytes(data)
        return tmp_path / "source"

    return make


def test_an_object_is_sent_read_listed_fetched_and_removed(url, source, tmp_path):
    contents = {"a.bin": os.urandom(1000), "b c/ä+%20.jpg": b"x", "b c/deep/empty": b""}
    for name, data in contents.items():
        assert storage.send(source(data), storage.join(url, name))
    found = dict(storage.walk(url))
    assert {name: stat.size for name, stat in found.items()} == {n: len(d) for n, d in contents.items()}
    assert storage.children(url) == {"a.bin": found["a.bin"], "b c": None}
    assert set(storage.children(storage.join(url, "b c"))) == {"ä+%20.jpg", "deep"}
    assert storage.children(storage.join(url, "nothing")) == {}
    for name, data in contents.items():
        place = storage.join(url, name)
        assert storage.read(place) == data and storage.exists(place)
        assert storage.stat(place) == found[name]
        storage.fetch(place, tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == data
        storage.remove(place)
        storage.remove(place)
        assert not storage.exists(place)
    assert list(storage.walk(url)) == []


def test_parts_of_an_object_are_read(url, source):
    storage.send(source(b"0123456789"), storage.join(url, "a"))
    read = [storage.read(storage.join(url, "a"), *part) for part in ((2, 5), (7, None), (None, 3), (4, 4))]
    assert read == [b"234", b"789", b"012", b""]


def test_the_stamp_changes_with_the_object(url, source):
    place = storage.join(url, "a")
    storage.send(source(b"one"), place)
    first = storage.stat(place)
    storage.send(source(b"two"), place)
    second = storage.stat(place)
    assert first.stamp != second.stamp and min(first.stamp, second.stamp) > 0


def test_of_many_senders_one_creates_an_object(url, tmp_path):
    for number in range(8):
        (tmp_path / str(number)).write_bytes(str(number).encode())
    place = storage.join(url, "claim")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: storage.send(tmp_path / str(n), place, only_new=True), range(8)))
    if not url.startswith("memory"):  # whose check and write are two steps
        assert made.count(True) == 1 and storage.read(place) == str(made.index(True)).encode()
    assert not storage.send(tmp_path / "3", place, only_new=True)
    assert [name for name, _ in storage.walk(url)] == ["claim"]


def test_a_large_object_is_created_once_in_parts(s3, tmp_path, monkeypatch):
    bucket, large = s3.bucket(), tmp_path / "large"
    large.write_bytes(os.urandom(100) + bytes(10 << 20))
    fs = storage.file_system(bucket, retry=False)
    monkeypatch.setattr(fs, "put_file", functools.partial(fs.put_file, chunksize=5 << 20))
    s3.requests.clear()
    assert storage.send(large, f"{bucket}/large", only_new=True)
    assert any("uploadId" in request for request in s3.requests)
    assert not storage.send(large, f"{bucket}/large", only_new=True)
    assert storage.read(f"{bucket}/large", 0, 100) == large.read_bytes()[:100]


def test_a_listing_comes_in_pages_and_a_throttled_one_goes_on(s3, source, monkeypatch):
    import boto3

    bucket = s3.bucket()
    client = boto3.client("s3")
    for number in range(25):
        client.put_object(Bucket=bucket[5:], Key=f"photos/{number:02}.jpg", Body=b"x")
    client.put_object(Bucket=bucket[5:], Key="photos/", Body=b"")
    client.put_object(Bucket=bucket[5:], Key="photos-of-others/a.jpg", Body=b"x")
    call = storage.file_system(bucket).call_s3
    pages = []
    monkeypatch.setattr(
        storage.file_system(bucket),
        "call_s3",
        lambda name, **asked: pages.append(call(name, MaxKeys=10, **asked)) or pages[-1],
    )
    listed = storage.walk(f"{bucket}/photos/")
    next(listed)
    assert len(pages) == 1
    with s3.failing("list-type=2", times=2):
        assert 1 + len(list(listed)) == 25
    assert len(pages) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [("503 Slow Down", "SlowDown"), ("500 Oops", "InternalError"), ("429 Many", "TooManyRequests")],
)
def test_what_fails_for_a_moment_is_tried_again(s3, source, tmp_path, status, code):
    place = f"{s3.bucket()}/a"
    with s3.failing("/a?", status, code, times=2):
        storage.send(source(b"data"), place)
    with s3.failing("/a?", status, code, times=2):
        assert storage.read(place) == b"data"
    with s3.failing("/a?", status, code, times=2):
        storage.fetch(place, tmp_path / "a")
    with s3.failing("/a?", status, code, times=2):
        assert storage.stat(place).size == 4


def test_what_keeps_failing_ends_with_one_clear_line(s3, tmp_path):
    bucket = s3.bucket()
    with s3.failing(times=10_000) as left:
        with pytest.raises(StorageError, match=rf"^{bucket}/a cannot be used: .*\(5 tries\)$"):
            storage.fetch(f"{bucket}/a", tmp_path / "a")
        assert 10_000 - left[0] < 30
    assert not (tmp_path / "a").exists()


def test_a_created_object_whose_answer_was_lost_is_ours(s3, source):
    bucket = s3.bucket()
    assert storage.send(source(b"first"), f"{bucket}/other", only_new=True)
    with s3.failing("PUT", keep=True):
        assert storage.send(source(b"mine"), f"{bucket}/claim", only_new=True)
    with s3.failing("PUT"):
        assert not storage.send(source(b"yours"), f"{bucket}/claim", only_new=True)
    assert storage.read(f"{bucket}/claim") == b"mine"


def test_a_store_that_ignores_the_condition_is_not_used_to_create(s3, source, monkeypatch):
    bucket = s3.bucket()
    fs = storage.file_system(bucket, retry=False)
    put = fs.put_file
    monkeypatch.setattr(fs, "put_file", lambda path, url, mode: put(path, url))
    with pytest.raises(StorageError, match="writes over objects that it was asked only to create"):
        storage.send(source(b"x"), f"{bucket}/claim", only_new=True)
    assert list(storage.walk(bucket)) == []


def test_wrong_credentials_say_at_once_what_to_do(s3, source):
    place = f"{s3.bucket()}/a"
    with s3.failing(status="403 Forbidden", code="InvalidAccessKeyId", times=100) as left:
        for call in (storage.read, storage.stat, lambda url: list(storage.walk(url))):
            with pytest.raises(StorageError, match=r"is refused: .*AWS_ACCESS_KEY_ID"):
                call(place)
        assert 100 - left[0] == 3


def test_what_is_not_there(s3, tmp_path):
    bucket = s3.bucket()
    for url in (f"{bucket}/a", "memory://nowhere/a", f"file://{tmp_path}/a"):
        for call in (storage.read, storage.stat, lambda url: storage.fetch(url, tmp_path / "x")):
            with pytest.raises(FileNotFoundError, match="no such object"):
                call(url)
    assert list(storage.walk(f"{bucket}/empty")) == []
    with pytest.raises(StorageError, match="bucket of s3://nobodys-bucket/a does not exist"):
        list(storage.walk("s3://nobodys-bucket/a"))


def test_a_full_disk_of_this_machine_is_told_as_such(tmp_path, monkeypatch):
    def write(url, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "_fetch", write)
    with pytest.raises(OSError, match="No space left on device") as caught:
        storage.fetch("memory://bucket/object", tmp_path / "object")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))


def test_a_scheme_is_known_and_installed(tmp_path, source):
    for url in ("s4://bucket/a", "sftp://host/a", "simplecache://a"):
        with pytest.raises(OptionError, match=r"Unknown scheme '\w+'. Choose one of: s3, "):
            storage.read(url)
    with pytest.raises(MissingExtraError, match=r"az:// needs a package .* pip install adlfs"):
        storage.read("az://container/a")
    for url in ("https://example.org/a", "hf://datasets/a/b"):
        with pytest.raises(OptionError, match="read only"):
            storage.send(source(b""), url)
    with pytest.raises(OptionError, match="cannot create an object only if there is none"):
        storage.send(source(b""), "az://container/a", only_new=True)
    with pytest.raises(OptionError, match="no listing"):
        next(storage.walk("http://127.0.0.1/"))


def test_files_of_a_web_server(web_server, tmp_path):
    web_server.files["/a b.jpg"] = b"0123456789"
    url = f"{web_server.address}/a b.jpg"
    assert storage.read(url) == b"0123456789" and storage.read(url, 2, 5) == b"234"
    assert storage.stat(url).size == 10 and storage.stat(url) == storage.stat(url)
    storage.fetch(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"0123456789"
    assert not storage.exists(f"{web_server.address}/b.jpg")
    before = storage.stat(url)
    web_server.files["/a b.jpg"] = b"9876543210"
    assert storage.stat(url) != before
    web_server.ranges = False
    assert storage.read(url, 2, 5) == b"765" and storage.stat(url).size == 10
    web_server.faults = [503, 429]
    assert storage.read(url, 8) == b"10"
    web_server.faults = [403]
    with pytest.raises(StorageError, match="403"):
        storage.read(url)


def test_threads_share_connections_and_a_slow_store_is_waited_for_at_once(s3, source):
    place = f"{s3.bucket()}/a"
    storage.send(source(b"x"), place)
    with s3.failing("GET", status="", times=100, wait_s=0.1):
        started = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(storage.read, [place] * 16)) == {b"x"}
    assert time.perf_counter() - started < 1.0
    assert threading.active_count() < 100

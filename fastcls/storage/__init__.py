"""The one door to object stores and web servers: files at URLs, read, listed and written whole.

A URL is text, never a `Path`, which would make one slash of two. `http(s)://` needs no package; other schemes
come by fsspec (extra `remote`), which reads credentials and endpoints where the tools of each store look for
them, and in `FSSPEC_SCHEME_OPTION` of the environment.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastcls import files, web
from fastcls.errors import OptionError, StorageError
from fastcls.published import publish
from fastcls.storage import stores
from fastcls.storage.stores import S3, file_system
from fastcls.storage.tries import code_of, missing, tried
from fastcls.web import scheme_of

# Schemes whose stores can create an object only if there is none; others are read, or written over.
_CONDITIONAL = ("file", "gcs", "gs", "memory", "s3", "s3a")
_READ_ONLY = ("hf", "http", "https")
# What tells that an object has changed, in order of trust: tags, checksums and versions, then times.
_MARKS = ("ETag", "etag", "generation", "md5Hash", "crc32c", "blob_id", "mtime", "LastModified", "created")


class Stat(NamedTuple):
    """State of an object.

    Attributes:
        size: In bytes.
        stamp: A number of 63 bits that changes when the object does, never 0.
    """

    size: int
    stamp: int


def is_url(path: object) -> bool:
    """Whether it is the text of a URL.

    >>> [is_url(path) for path in ("s3://bucket/a.jpg", "photos/a.jpg", Path("s3://bucket"))]
    [True, False, False]
    """
    return isinstance(path, str) and scheme_of(path) != ""


def join(url: str, *parts: str) -> str:
    """A URL below another one.

    >>> join("s3://bucket/photos/", "cat", "a.jpg")
    's3://bucket/photos/cat/a.jpg'
    """
    return "/".join([url.rstrip("/"), *(part.strip("/") for part in parts)])


def read(url: str, start: int | None = None, stop: int | None = None) -> bytes:
    """The bytes of an object, or those from `start` to before `stop`.

    Raises:
        FileNotFoundError: There is no such object.
        OSError: It cannot be read; the message says why, and what to do.
        OptionError: The scheme is unknown.
    """
    if stop is not None and stop <= (start or 0):
        return b""
    if web.is_url(url):
        return tried(url, lambda: web.fetch(url, start or 0, stop))
    fs = file_system(url)
    if scheme_of(url) in S3 and start is None and stop is None:
        return tried(url, lambda: stores.get_object(fs, url))[0]
    data = tried(url, lambda: fs.cat_file(url, start=start, end=stop))
    return bytes(data)


def read_whole(url: str) -> tuple[bytes, Stat]:
    """The bytes of an object and its state, in one request where the store tells both at once.

    Raises:
        FileNotFoundError: There is no such object.
        OSError: It cannot be read.
    """
    if web.is_url(url):
        data, mark = tried(url, lambda: web.fetch_marked(url))
        return data, Stat(len(data), _stamp([len(data), mark]))
    if scheme_of(url) in S3:
        fs = file_system(url)
        data, mark = tried(url, lambda: stores.get_object(fs, url))
        return data, _stat_of({"size": len(data), "ETag": mark})
    found = stat(url)  # before the bytes: a change meanwhile shows the next time
    return read(url), found


def stat(url: str) -> Stat:
    """Size and stamp of an object, the same as `walk` gives.

    Raises:
        FileNotFoundError: There is no such object.
        OSError: The store does not tell.
    """
    if web.is_url(url):
        size, mark = tried(url, lambda: web.state(url))
        return Stat(size, _stamp([size, mark]))
    fs = file_system(url)
    info = tried(url, lambda: fs.info(url))
    if info["type"] != "file":
        raise missing(url)
    return _stat_of(info)


def exists(url: str) -> bool:
    """Whether there is such an object; a prefix of others is none.

    Raises:
        OSError: The store does not tell.
    """
    try:
        stat(url)
    except FileNotFoundError:
        return False
    return True


def walk(url: str) -> Iterator[tuple[str, Stat]]:
    """All objects below a URL, as they are listed: in pages of which one is in memory at a time.

    Yields:
        Path relative to the URL, and state. An object that stands for a folder is left out.

    Raises:
        StorageError: The store cannot be listed, or there is no such bucket.
        OptionError: The scheme has no listing, as the web has none.
    """
    fs, root = _listable(url)
    listed = _s3_objects(fs, url, root) if scheme_of(url) in S3 else _objects(fs, url, root)
    for name, found in listed:
        path = name[len(root) :].lstrip("/")
        if found and path and not path.endswith("/"):
            yield path, found


def children(url: str) -> dict[str, Stat | None]:
    """What is directly below a URL, by name: the state of an object, None for a prefix of others.

    Raises:
        StorageError: The store cannot be listed, or there is no such bucket.
        OptionError: The scheme has no listing, as the web has none.
    """
    fs, root = _listable(url)
    if scheme_of(url) in S3:
        listed = list(_s3_objects(fs, url, root, Delimiter="/"))
    else:
        listed = [(info["name"], _state_of(info)) for info in _ls(fs, url, root, root)]
    found = {name.rstrip("/")[len(root) :].lstrip("/"): state for name, state in listed}
    return {name: state for name, state in found.items() if name}


def fetch(url: str, path: Path) -> None:
    """Copy an object to a file, which appears whole or not at all.

    Raises:
        FileNotFoundError: There is no such object.
        OSError: It cannot be read or written, or changes meanwhile.
    """
    with files.atomic_path(path) as temporary:
        tried(url, lambda: _fetch(url, temporary))


def send(path: Path, url: str, *, only_new: bool = False) -> bool:
    """Copy a file to an object, which appears whole or not at all; returns when the store has it.

    Args:
        path: The file.
        url: The object.
        only_new: Create it, decided by the store: of several senders one succeeds.

    Returns:
        False if `only_new` and it is there already, whoever made it.

    Raises:
        OptionError: The scheme is read only, or cannot be asked to create only.
        StorageError: The store refuses it, or writes over objects that it should only create.
    """
    scheme = scheme_of(url)
    stores.require_known(url)
    if scheme in _READ_ONLY:
        raise OptionError(f"{scheme}:// is read only. Choose s3://, gs:// or a local path. Received: {url}")
    if only_new and scheme not in _CONDITIONAL:
        raise OptionError(
            f"{scheme}:// cannot create an object only if there is none. Choose s3:// or gs://. "
            f"Received: {url}"
        )
    if scheme == "file":
        return _put_local(path, Path(file_system(url)._strip_protocol(url)), only_new=only_new)
    if not only_new:
        fs = file_system(url)
        tried(url, lambda: fs.put_file(os.fspath(path), url))
        return True
    _require_conditional(url)
    return _create(path, url)


def remove(url: str) -> None:
    """Remove an object, if it is there.

    Raises:
        OSError: The store refuses it.
    """
    if scheme_of(url) in _READ_ONLY:
        raise OptionError(f"{scheme_of(url)}:// is read only. Received: {url}")
    fs = file_system(url)
    with contextlib.suppress(FileNotFoundError):
        tried(url, lambda: fs.rm_file(url))


def forget() -> None:
    """Make new connections from now on, with what the environment says then."""
    stores.forget()
    _conditional_buckets.clear()


def _stat_of(info: dict[str, Any]) -> Stat:
    size = int(info["size"] or 0)
    mark = next((info[name] for name in _MARKS if info.get(name)), "")
    text = str(mark.timestamp() if hasattr(mark, "timestamp") else mark)
    return Stat(size, _stamp([size, text.strip('"')]))


def _stamp(parts: list[Any]) -> int:
    hashed = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big") >> 1 or 1


def _listable(url: str) -> tuple[Any, str]:
    """The file system of a URL, and what names begin with below it."""
    if web.is_url(url):
        raise OptionError(
            "A web server has no listing of its files. Give a CSV or Parquet list of addresses. "
            f"Received: {url}"
        )
    fs = file_system(url)
    return fs, fs._strip_protocol(url).rstrip("/")


def _objects(fs: Any, url: str, root: str) -> Iterator[tuple[str, Stat]]:
    folders = [root]
    while folders:
        for info in _ls(fs, url, root, folders.pop()):
            state = _state_of(info)
            if state:
                yield info["name"], state
            else:
                folders.append(info["name"])


def _ls(fs: Any, url: str, root: str, folder: str) -> list[dict[str, Any]]:
    """What fsspec lists directly below a folder; nothing where there is none."""
    try:
        listed = tried(url, functools.partial(fs.ls, folder, detail=True))
    except (FileNotFoundError, NotADirectoryError):
        if folder == root and "/" not in root.strip("/"):
            raise StorageError(f"{url} does not exist. Check the name of the bucket") from None
        return []
    return [info for info in listed if info["name"].rstrip("/") != folder]  # a file is listed as itself


def _state_of(info: dict[str, Any]) -> Stat | None:
    return None if info["type"] == "directory" else _stat_of(info)


def _s3_objects(fs: Any, url: str, root: str, **asked: Any) -> Iterator[tuple[str, Stat | None]]:
    bucket, _, key = root.partition("/")
    asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", **asked, **fs.req_kw}
    while True:
        page = tried(url, lambda: fs.call_s3("list_objects_v2", **asked))
        for found in page.get("CommonPrefixes", ()):
            yield f"{bucket}/{found['Prefix']}", None
        for found in page.get("Contents", ()):
            yield f"{bucket}/{found['Key']}", _stat_of({**found, "size": found["Size"]})
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _fetch(url: str, path: Path) -> None:
    if web.is_url(url):
        with path.open("wb") as file:
            web.fetch_into(url, file)
        return
    fs, told = file_system(url), stat(url)
    fs.get_file(url, os.fspath(path))
    if path.stat().st_size != told.size:
        raise ConnectionError(f"{path.stat().st_size:,} of {told.size:,} bytes came")


def _put_local(source: Path, target: Path, *, only_new: bool) -> bool:
    files.make_folder(target.parent)
    with files.temporary_folder(target.parent) as folder:
        temporary = folder / "file"
        shutil.copyfile(source, temporary)
        if only_new:
            return publish(temporary, target)
        files.put(temporary, target)
    return True


def _create(path: Path, url: str) -> bool:
    """Create an object; a try whose answer was lost may have made it, and is told by the bytes."""
    fs, is_unsure = file_system(url, retry=False), False

    def put() -> bool:
        nonlocal is_unsure
        try:
            fs.put_file(os.fspath(path), url, mode="create")
        except Exception as error:
            if isinstance(error, FileExistsError) or code_of(error) == "PreconditionFailed":
                return is_unsure and read(url) == path.read_bytes()
            is_unsure = True
            raise
        return True

    return tried(url, put)


_conditional_buckets: set[tuple[str, str, int]] = set()


def _require_conditional(url: str) -> None:
    """Try once per bucket what a store does, or a package of it: some ignore the condition.

    Raises:
        StorageError: It writes over what it should only create.
    """
    if scheme_of(url) == "memory":
        return
    bucket = (scheme_of(url), url.partition("://")[2].partition("/")[0], os.getpid())
    if bucket in _conditional_buckets:
        return
    folder, _, _ = url.rpartition("/")
    probe = join(folder, f".fastcls-probe-{os.urandom(8).hex()}")
    with tempfile.NamedTemporaryFile() as local:
        local.write(b"fastcls looks whether this store can create only")
        local.flush()
        try:
            refused = _create(Path(local.name), probe) and not _create(Path(local.name), probe)
        finally:
            remove(probe)
    if not refused:
        raise StorageError(
            f"The store of {url} writes over objects that it was asked only to create. Use a store, and "
            f"packages (pip install -U 'fastcls[remote]'), with conditional writes (If-None-Match)"
        )
    _conditional_buckets.add(bucket)

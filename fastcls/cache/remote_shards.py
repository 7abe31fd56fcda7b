"""The shards of a cache at a URL: listed, fetched when rows are first read, and sent when they are made.

URL/shards/NAME.h5       a shard, sent whole
URL/shards/NAME.digests  its digests, sent after it: what is missing is known without the rows
CACHE/landing/NAME.h5    a shard that was written here and is not in the store yet

A shard without such a file, as of a cache that was copied by other tools, is fetched for its digests.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from fastcls import files, home
from fastcls.cache import mirror
from fastcls.data.digests import DIGEST_DTYPE, as_numbers
from fastcls.errors import CacheError, call, spoken
from fastcls.parallel import spread

_LANDING, _DIGESTS, _SHARD = "landing", ".digests", ".h5"
_FORMAT = "fastcls-digests-1"
logger = logging.getLogger(__name__)


def landing(shards: Path) -> Path:
    """Where shards are written: in a mirror, aside of those that the store has."""
    return shards if mirror.url_of(shards) is None else shards.parent / _LANDING


def listed(shards: Path) -> dict[str, tuple[int, int]] | None:
    """The shards that the store has: size and stamp by name. None for a folder that is no mirror.

    Copies here of what is gone there, or other now, are removed.

    Args:
        shards: Their folder.

    Raises:
        OSError: The store cannot be listed.
    """
    url = mirror.url_of(shards)
    if url is None:
        return None
    from fastcls import storage

    found = storage.walk(url)
    there = {name: (stat.size, stat.stamp) for name, stat in found if name[0] != "." and "/" not in name}
    for path in shards.glob("[!.]*.*"):
        if path.name not in there or there[path.name][0] != path.stat().st_size:
            path.unlink(missing_ok=True)
    return {name: state for name, state in there.items() if name.endswith(_SHARD)}


def fetch_digests(sizes: Mapping[Path, int]) -> None:
    """Fetch the digests of shards that are not here.

    Args:
        sizes: Those that are listed, with their sizes.

    Raises:
        OSError: They cannot be fetched.
    """
    away = [path for path in sizes if mirror.url_of(path) is not None and not path.exists()]
    lacking = [path.with_suffix(_DIGESTS) for path in away if not path.with_suffix(_DIGESTS).exists()]
    for _ in spread(_fetch, lacking):
        pass
    for path in away:
        if _size_told(path.with_suffix(_DIGESTS)) != sizes[path]:
            path.with_suffix(_DIGESTS).unlink(missing_ok=True)  # the shard itself has to tell


def known_digests(path: Path, fingerprint: str) -> np.ndarray | None:
    """The digests (N,) S32 of a shard that is not here; None where only the shard tells them."""
    if mirror.url_of(path) is None or path.exists():
        return None
    try:
        head, data = _read(path.with_suffix(_DIGESTS))
    except (OSError, ValueError):
        return None
    return _as_text(data) if head[1] == fingerprint else None


def fetched(path: Path, check: Callable[[Path], np.ndarray]) -> Path:
    """A shard; that of a mirror is fetched if it is not here.

    Args:
        path: The shard.
        check: Raises CacheError for a shard with damage, and returns its digests.

    Raises:
        CacheError: It is damaged, or gone, or another one than was listed.
        OSError: It cannot be fetched.
    """
    url = mirror.url_of(path)
    if url is None or path.exists():
        return path
    from fastcls import storage

    with files.atomic_path(path) as temporary:
        try:
            storage.fetch(url, temporary)
        except FileNotFoundError as error:
            raise CacheError(
                f"Shard {url} is gone since it was listed. Run the same command again"
            ) from error
        try:
            _require_same(path, check(temporary))
        except CacheError as error:
            raise CacheError(str(error).replace(spoken(temporary), url)) from error
    path.with_suffix(_DIGESTS).unlink(missing_ok=True)
    return path


def publish(path: Path, shards: Path, fingerprint: str, check: Callable[[Path], np.ndarray]) -> Path:
    """Send a shard from where it was written, once it is known to be readable; then it is among the others.

    Args:
        path: The shard.
        shards: The folder of the others.
        fingerprint: Of the cache.
        check: See `fetched`.

    Raises:
        CacheError: It is damaged.
        OSError: The store refuses it, or cannot be reached.
    """
    url = mirror.url_of(shards)
    if url is None:
        return path
    from fastcls import storage

    digests = check(path)
    name = _name(path.stem, digests)
    storage.send(path, storage.join(url, f"{name}{_SHARD}"))
    with files.temporary_folder(path.parent) as place:
        beside = place / f"{name}{_DIGESTS}"
        _write(beside, digests, fingerprint, path.stat().st_size)
        storage.send(beside, storage.join(url, beside.name))
    files.make_folder(shards)
    return path.replace(shards / f"{name}{_SHARD}")


def deliver(shards: Path, fingerprint: str, check: Callable[[Path], np.ndarray]) -> None:
    """Send the shards that an interrupted extraction has written and not sent; see `publish`.

    A damaged one is removed: its images are forwarded again.
    """
    place = landing(shards)
    for path in sorted(place.glob(f"[!.]*{_SHARD}")) if place != shards else ():
        try:
            publish(path, shards, fingerprint, check)
        except CacheError as error:
            logger.warning("%s. It was not sent yet, and is made again", error)
            path.unlink()


@contextlib.contextmanager
def copied(url: str) -> Iterator[Path]:
    """All files of caches as the store has them now, in a folder that goes when the block ends.

    Raises:
        OptionError: There is no place for it.
        OSError: They cannot be fetched.
    """
    from fastcls import storage

    mirror.folder_of(url)  # or refused
    own = home.folder()
    assert own is not None
    with files.temporary_folder(own) as place:
        call(str(place / "all"), url.rstrip("/"))
        names = [name for name, _ in storage.walk(url) if not name.endswith(_DIGESTS)]
        for _ in spread(lambda name: storage.fetch(storage.join(url, name), place / "all" / name), names):
            pass
        yield place / "all"


def _name(given: str, digests: np.ndarray) -> str:
    """A name that tells the rows: another shard of it has the same, so that it may be written over."""
    content = files.digest(digests.tobytes())[:16]
    return given if given == content else f"{given.partition('-')[0]}-{content}"


def _require_same(path: Path, digests: np.ndarray) -> None:
    """Refuse a shard that has other rows than its digests said: places in it are known from them."""
    with contextlib.suppress(OSError, ValueError):
        if _read(path.with_suffix(_DIGESTS))[1] != as_numbers(digests).astype(">u8").tobytes():
            path.with_suffix(_DIGESTS).unlink()
            raise CacheError(f"Shard {path} has changed since it was listed. Run the same command again")


def _fetch(path: Path) -> None:
    from fastcls import storage

    with contextlib.suppress(FileNotFoundError):
        data = storage.read(str(mirror.url_of(path)))  # one request, unlike `fetch`
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(data)


def _size_told(path: Path) -> int | None:
    """The size of the shard that a file of digests belongs to; None if it is damaged."""
    try:
        return int(_read(path)[0][2])
    except (OSError, ValueError):
        return None


def _write(path: Path, digests: np.ndarray, fingerprint: str, size: int) -> None:
    data = as_numbers(digests).astype(">u8").tobytes()
    head = f"{_FORMAT} {fingerprint} {size} {zlib.crc32(data)}\n"
    path.write_bytes(head.encode() + data)


def _read(path: Path) -> tuple[list[str], bytes]:
    """The words of the first line, and the digests of 16 bytes each.

    Raises:
        ValueError: It is damaged.
    """
    first, _, data = path.read_bytes().partition(b"\n")
    head = first.decode().split(" ")
    if len(head) != 4 or head[0] != _FORMAT or int(head[3]) != zlib.crc32(data) or len(data) % 16:
        raise ValueError(f"{path} is damaged")
    return head, data


def _as_text(data: bytes) -> np.ndarray:
    return np.frombuffer(data.hex().encode(), DIGEST_DTYPE)

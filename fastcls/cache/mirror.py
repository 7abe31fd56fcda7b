"""A cache at a URL is a folder on this machine that mirrors it; what reads and writes caches knows folders.

HOME/mirrors/SCHEME/BUCKET/KEY  the folder of SCHEME://BUCKET/KEY, a cache or a root of caches
CACHE/.mirror.json              which files, but for shards, the store had when it was last listed, and the
                                states of those that are here

`opened` lists what the store has and fetches the small files; `local` fetches a file where it is needed;
`push` sends what is new here. Shards are in `remote_shards`. A folder that mirrors nothing is left alone by
all of it. Removing a mirror loses nothing but what an interrupted extraction has not sent yet.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from fastcls import errors, files, home
from fastcls.errors import OptionError, shown
from fastcls.files import PathLike
from fastcls.parallel import spread
from fastcls.records import made
from fastcls.sizes import folder_size

_STATE, _PROBE = ".mirror.json", ".fastcls-may-write"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_MANIFEST, _DIGESTS = "manifest.json", "digests.json"
_MODELS = (_DIGESTS, "trunk.keras", "tail.keras")
_TABLES, _FAILURES = ("samples", "failures"), "failures/"
_SMALL = ".json"
_roots: dict[str, Path] = {}  # by scheme; empty where no URL was met: then no folder is a mirror


@dataclass(frozen=True)
class _Known:
    """What is known of a file of the store.

    Attributes:
        size: In bytes.
        stamp: See `storage.Stat`.
        mtime_ns: Of the copy here when it was fetched or sent; 0 where there is none.
    """

    size: int
    stamp: int
    mtime_ns: int = 0


class _Stored(TypedDict):
    files: dict[str, tuple[int, int, int]]


def is_url(place: object) -> bool:
    """Whether it is the text of a URL."""
    return isinstance(place, str) and _SCHEME.match(place) is not None


def folder_of(place: PathLike, name: str = "cache", also: str = "") -> Path:
    """The folder of a cache, or of a root of caches; of a URL, the one that mirrors it. Nothing is fetched.

    Raises:
        OptionError: It is neither path nor URL, no path has its parts, or there is no place for a mirror.
    """
    if not is_url(place):
        return files.as_path(place, name, also)
    scheme, _, key = str(place).partition("://")
    parts = key.rstrip("/").split("/")
    if {"", ".", ".."} & {*parts} or "\0" in key:
        raise OptionError(
            f"{name} must be a path, or a URL like s3://bucket/caches without empty parts. "
            f"Received: {shown(place)}"
        )
    own = home.folder()
    if own is None:
        raise OptionError(f"{place} needs a folder on this machine to mirror it. Set {home.VARIABLE} to one")
    root = _roots[scheme.lower()] = own / home.MIRRORS / scheme.lower()
    errors.call(f"{root}/", f"{scheme.lower()}://")
    return root.joinpath(*parts)


def url_of(path: Path) -> str | None:
    """The URL that a folder or file of a mirror stands for; None for any other."""
    for scheme, root in _roots.items():
        if path.is_relative_to(root):
            return f"{scheme}://{path.relative_to(root).as_posix()}"
    return None


def place_of(path: Path) -> str:
    """What another process, here or elsewhere, finds a folder or file by: URL, or absolute path."""
    return url_of(path) or str(path.absolute())


def opened(place: PathLike, name: str = "cache", also: str = "") -> Path:
    """Like `folder_of`, after a look at what the store of a URL has now.

    Raises:
        OptionError: See `folder_of`.
        OSError: The store cannot be listed.
    """
    path = folder_of(place, name, also)
    if is_url(place):
        listed = _children(str(place))
        caches = [path] if _MANIFEST in listed else [path / name for name in _folders(path, listed)]
        for _ in spread(_pull, caches):
            pass
    return path


def local(path: Path) -> Path:
    """A file of a cache; in a mirror it is fetched if the store has it and it is not here.

    Raises:
        OSError: It cannot be fetched.
    """
    if url_of(path) is None or path.exists():
        return path
    cache = next((each for each in list(path.parents)[:2] if (each / _STATE).exists()), path.parent)
    with _state(cache) as known:
        name = path.relative_to(cache).as_posix()
        if name in known and not path.exists():
            _fetch(cache, name, known)
    return path


def has(path: Path) -> bool:
    """Whether a file of a cache is there, be it in the store alone; nothing is fetched."""
    if path.is_file() or url_of(path) is None:
        return path.is_file()
    with _state(path.parent) as known:
        return path.name in known


def size(folder: Path) -> int:
    """Bytes of all files of a cache; of a mirror, in the store.

    Raises:
        OSError: The store cannot be listed.
    """
    url = url_of(folder)
    if url is None:
        return folder_size(folder)
    from fastcls import storage

    return sum(stat.size for _, stat in storage.walk(url))


def push(cache: Path, *, tables: bool = False) -> None:
    """Send what is new in a cache; what names other files follows them.

    Of two machines that make the same cache at once, the first to come sends its models. Of two that write
    tables of one data set, the last.

    Args:
        cache: A folder, which is left alone if it is no mirror.
        tables: Send the tables and reports of data sets, too.

    Raises:
        OSError: The store refuses it.
    """
    url = url_of(cache)
    if url is None:
        return
    with _state(cache) as known:
        if _may_send_models(cache, url, known):
            for name in (*_MODELS, _MANIFEST):
                _send(cache, url, name, known)
        for name in _tables(cache, known) if tables else ():
            _send(cache, url, name, known)


def push_engines(trunk: Path) -> None:
    """Send a trunk, and the folders beside it that engines load, for machines that do not make them.

    Raises:
        OSError: The store refuses it.
    """
    from fastcls import storage

    url = url_of(trunk.parent)
    if url is None:
        return
    push(trunk.parent)
    for digests in sorted(trunk.parent.glob(f"*/{_DIGESTS}")):
        there = storage.children(f"{url}/{digests.parent.name}")
        for path in sorted(digests.parent.iterdir(), key=lambda path: path == digests):  # those last
            state = there.get(path.name)
            if state is None or state.size != path.stat().st_size:
                storage.send(path, f"{url}/{path.parent.name}/{path.name}")


def pull_engines(trunk: Path) -> None:
    """Fetch the folders beside a trunk that are not here; each appears whole.

    Raises:
        OSError: They cannot be fetched.
    """
    from fastcls import storage

    url = url_of(trunk.parent)
    for name, state in _children(url).items() if url else ():
        place = trunk.parent / name
        there = _children(f"{url}/{name}") if state is None and not place.exists() else {}
        if _DIGESTS in there:
            with files.atomic_folder(place) as temporary:
                for each in filter(there.get, there):
                    storage.fetch(f"{url}/{name}/{each}", temporary / each)


def require_writable(root: Path) -> None:
    """Try whether the store of a mirror can be written to.

    Raises:
        OptionError: It cannot.
    """
    from fastcls import storage

    url = url_of(root)
    if url is None:
        return
    files.make_folder(root)
    with files.temporary_folder(root) as place:
        (place / _PROBE).write_text("fastcls tries whether it may write here\n")
        try:
            storage.send(place / _PROBE, storage.join(url, _PROBE))
            storage.remove(storage.join(url, _PROBE))
        except OSError as error:
            raise OptionError(f"{url} cannot be written to: {error}") from error


def _folders(root: Path, listed: Mapping[str, Any]) -> list[str]:
    """Names of the folders that may be caches, in the store and here: of a cache that is gone, too."""
    here = [path.parent.name for path in root.glob(f"*/{_STATE}")]
    return sorted({*here, *(name for name, stat in listed.items() if stat is None)})


def _pull(cache: Path) -> None:
    """Fetch the small files of a cache that have changed; what is old or gone is removed from the mirror."""
    url = url_of(cache)
    assert url is not None
    listed = dict(_listed(url))
    if not listed and not cache.exists():
        return
    with _state(cache) as known:
        for name in known.keys() - listed.keys():
            if known.pop(name).mtime_ns:  # else it is new here
                (cache / name).unlink(missing_ok=True)
        for name, new in listed.items():
            if name in known and replace(known[name], mtime_ns=0) == new:
                continue
            known[name] = new
            if name.endswith(_SMALL):
                _fetch(cache, name, known)
            else:
                (cache / name).unlink(missing_ok=True)


def _listed(url: str) -> Iterator[tuple[str, _Known]]:
    """The files of a cache in the store, but for shards."""
    for name, stat in _children(url).items():
        if stat is not None:
            yield name, _Known(*stat)
        elif name in _TABLES:
            for below, each in _children(f"{url}/{name}").items():
                if each is not None:
                    yield f"{name}/{below}", _Known(*each)


def _children(url: str) -> dict[str, Any]:
    """Names directly below a URL, each with its state; None for what has others below it."""
    from fastcls import storage

    return storage.children(url)


def _fetch(cache: Path, name: str, known: dict[str, _Known]) -> None:
    from fastcls import storage

    try:
        storage.fetch(f"{url_of(cache)}/{name}", cache / name)
    except FileNotFoundError:  # it went after it was listed
        del known[name]
        return
    known[name] = replace(known[name], mtime_ns=(cache / name).stat().st_mtime_ns)


def _may_send_models(cache: Path, url: str, known: Mapping[str, _Known]) -> bool:
    """Whether the models here are those of the store: they are told by digests, of which only one file is."""
    from fastcls import storage

    if _DIGESTS in known or not (cache / _DIGESTS).exists():
        return True
    try:
        return storage.send(cache / _DIGESTS, f"{url}/{_DIGESTS}", only_new=True)
    except OptionError:  # the store cannot decide it
        return not storage.exists(f"{url}/{_DIGESTS}")


def _tables(cache: Path, known: Mapping[str, _Known]) -> list[str]:
    """Names of tables and reports, those of reports first: they tell which tables are to come."""
    here = [path for kind in _TABLES for path in (cache / kind).glob("[!.]*.*")]
    names = {path.relative_to(cache).as_posix() for path in here}
    names |= {name for name in known if name.partition("/")[0] in _TABLES}
    return sorted(names, key=lambda name: (not name.endswith(_SMALL), name))


def _send(cache: Path, url: str, name: str, known: dict[str, _Known]) -> None:
    """Send a file that the store does not have as it is here; where there are no failures, none stay."""
    from fastcls import storage

    path, old = cache / name, known.get(name)
    if not path.exists():
        if old and old.mtime_ns and name.startswith(_FAILURES):
            storage.remove(f"{url}/{name}")
            del known[name]
        return
    mtime_ns = path.stat().st_mtime_ns
    if not old or old.mtime_ns != mtime_ns:
        storage.send(path, f"{url}/{name}")
        known[name] = _Known(*storage.stat(f"{url}/{name}"), mtime_ns)


@contextlib.contextmanager
def _state(cache: Path) -> Iterator[dict[str, _Known]]:
    """What is known of a cache's files, to be changed: what the block has done is noted, even if it fails."""
    files.make_folder(cache)
    with files.locked(cache, f"Another process is opening {url_of(cache)}. Waiting", wait=True):
        try:
            stored = made(_Stored, files.read_checked_json(cache / _STATE))["files"]
            known = {name: _Known(*values) for name, values in stored.items()}
        except (OSError, ValueError):
            known = {}
        before = dict(known)
        try:
            yield known
        finally:
            if known != before:
                values = {name: astuple(each) for name, each in known.items()}
                files.write_checked_json(cache / _STATE, {"files": values})

"""What is costly to make and depends on nothing but its key, such as a converted base, is kept per machine.

HOME/KIND/KEY/whole/           what was made, complete: it appears whole or not at all
HOME/KIND/KEY/whole/home.json  the digests of its files; what does not match is made again

HOME is the environment variable FASTCLS_HOME, or the folder `fastcls` in the user's cache folder. The time
of a KEY folder is that of its last use. Models are loaded from here: nobody else may be able to write to it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

from fastcls import files
from fastcls.errors import OptionError
from fastcls.records import made
from fastcls.sizes import folder_size

T = TypeVar("T")
VARIABLE = "FASTCLS_HOME"
MIRRORS = "mirrors"  # of caches at URLs: their users remove them
MOST_BYTES = 5 << 30
_RECENT_S = 3600  # what was used since is perhaps in use
_WHOLE = "whole"
_DIGESTS = "home.json"
logger = logging.getLogger(__name__)


def folder() -> Path | None:
    """Where things are kept; None where there is no such place, or others may write to it."""
    given = os.environ.get(VARIABLE)
    place = Path(given).absolute() if given else _default()
    if place is None:
        return None
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat()
    except OSError as error:
        if given:
            reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
            _warn(f"{VARIABLE}={given} is not used: {reason}. Set it to a folder of your own")
        return None
    if found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return place
    _warn(f"{place} is not used, as others can write to it. Run: chmod go-w {place}, or set {VARIABLE}")
    return None


def kept(kind: str, key: str, make: Callable[[Path], object]) -> Path:
    """The folder of a thing, which is made once per machine; to be read, not written to.

    Without a place to keep it, it is made once per process, in a temporary folder.

    Args:
        kind: Of the thing, such as "trunk".
        key: All that it depends on, as a digest.
        make: Makes it in an empty folder.
    """
    home = folder()
    if home:
        try:
            return _kept_in(home / kind / key, make)
        except OSError as error:  # of a full disk, say; what is not the home's fault is raised again below
            logger.info("%s cannot be used (%s)", home, error)
    place = _of_process() / kind / key
    return place if place.is_dir() else _made(place, make)


def find(kind: str, key: str) -> Path | None:
    """The folder of a thing, if it is there and whole."""
    home = folder()
    place = home / kind / key if home else None
    if place and (place / _WHOLE).is_dir() and not _damage(place / _WHOLE):
        _note_use(place)
        return place / _WHOLE
    temporary = _of_process() / kind / key
    return temporary if temporary.is_dir() else None


def read(place: Path, name: str, kind: type[T]) -> T:
    """Read a JSON file of a thing.

    Args:
        place: The folder of the thing.
        name: Of the file.
        kind: What the file says: see `records.made`.

    Raises:
        OptionError: It says something else.
    """
    try:
        return made(kind, files.read_json(place / name))
    except (ValueError, RecursionError) as error:
        raise OptionError(
            f"{place / name} is damaged: {error}. Remove the folder {place}: it is made again"
        ) from error


def _kept_in(place: Path, make: Callable[[Path], object]) -> Path:
    whole = place / _WHOLE
    with _locked(place):
        is_new = not whole.is_dir()
        reason = "" if is_new else _damage(whole)
        if reason:
            logger.warning("A converted model that this machine keeps is made again: %s", reason)
            _remove(whole)
        if is_new or reason:
            try:
                _made(whole, make)
            except BaseException:
                with contextlib.suppress(OSError):
                    place.rmdir()
                raise
        _note_use(place)
    if is_new:
        _clean(place.parents[1])
    return whole


def _made(place: Path, make: Callable[[Path], object]) -> Path:
    with files.atomic_folder(place) as temporary:
        make(temporary)
        digests = {name: files.file_digest(temporary / name) for name in _names(temporary)}
        for name in digests:
            files.sync(temporary / name)
        files.write_checked_json(temporary / _DIGESTS, {"files": digests})
    return place


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Make a folder and hold its lock: another process that makes the same thing is waited for."""
    message = f"Another process is preparing {place}. Waiting for it to end"
    with contextlib.ExitStack() as stack:
        while True:
            files.make_folder(place)
            with contextlib.suppress(FileNotFoundError):  # its making failed just now
                stack.enter_context(files.locked(place, message, wait=True))
                break
        yield


def _damage(whole: Path) -> str:
    """What is wrong with a thing; "" for nothing."""
    try:
        known = files.read_checked_json(whole / _DIGESTS)["files"]
        found = {name: files.file_digest(whole / name) for name in _names(whole)}
    except (OSError, ValueError, KeyError) as error:
        return f"{whole} is damaged: {error}"
    return "" if known == found else f"{whole} is damaged: its digests do not match"


def _names(place: Path) -> list[str]:
    """All files below a folder, but for their digests."""
    found = (path.relative_to(place).as_posix() for path in place.rglob("*") if not path.is_dir())
    return sorted(name for name in found if name != _DIGESTS)


def _note_use(place: Path) -> None:
    with contextlib.suppress(OSError):  # of a disk that is read-only
        os.utime(place)


def _clean(home: Path) -> None:
    """Remove what was not used for the longest time, until the rest is small enough."""
    with contextlib.suppress(OSError, OptionError), files.locked(home, "Another process does it"):
        _remove_oldest(home)


def _remove_oldest(home: Path) -> None:
    kinds = [kind for kind in home.glob("*") if kind.name != MIRRORS]
    places = [each for kind in kinds for each in kind.glob("*") if not each.name.startswith(files.TEMPORARY)]
    used = {place: place.stat().st_mtime for place in places}
    sizes = {place: folder_size(place) for place in places}
    total = sum(sizes.values())
    for place in sorted(places, key=lambda place: used[place]):
        if total <= MOST_BYTES or used[place] > time.time() - _RECENT_S:
            return
        with contextlib.suppress(OptionError), files.locked(place, "It is in use"):
            _remove(place)
            total -= sizes[place]


def _remove(place: Path) -> None:
    """Remove a folder at once: it is never seen half removed."""
    files.remove_leftovers(place.parent)
    with files.temporary_folder(place.parent) as away:
        place.rename(away / place.name)


def _default() -> Path | None:
    """The folder in the user's cache folder, as platforms have it; None where there is none of their own."""
    try:
        own = Path.home()
        if own.stat().st_uid != os.geteuid():  # as under sudo
            return None
    except (OSError, RuntimeError):
        return None
    usual = own / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or usual).absolute() / "fastcls"


@cache
def _of_process() -> Path:
    return Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="fastcls-")


@cache
def _warn(message: str) -> None:
    """Say it once."""
    logger.warning("%s", message)

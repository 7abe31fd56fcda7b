"""Files that are written completely or not at all; digests, locks, and opening only regular files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from fastcls.errors import OptionError, shown

# What every path of the public functions may be.
PathLike: TypeAlias = str | os.PathLike[str]
DIGEST_BYTES = 16
# How every CSV file is opened; a file name that is not UTF-8 goes through unharmed.
CSV_TEXT: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
TEMPORARY = ".tmp-fastcls-"
_CHECKSUM = "checksum"
_OF_KERNEL = ("/proc", "/sys")
_TRIES = 100
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # also of one that a `Path` has shortened
logger = logging.getLogger(__name__)


def digest(data: bytes | memoryview) -> str:
    """128-bit BLAKE2b of some bytes as 32 hexadecimal characters: the identity of an image."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def as_path(given: PathLike, name: str, also: str = "") -> Path:
    """A path that Python code gives.

    Args:
        given: The path.
        name: What a message calls it.
        also: What else may be given in its place, for the message.

    Raises:
        OptionError: It is no path, or a URL.
    """
    if isinstance(given, str) and _URL.match(given):
        raise OptionError(f"{name} must be a path on this machine. Received: {shown(given)}")
    try:
        return Path(given)
    except TypeError as error:
        kinds = f"{also} or a path" if also else "a path"
        raise OptionError(f"{name} must be {kinds} (str or os.PathLike). Received: {shown(given)}") from error


def tidy(path: Path) -> Path:
    """A path without `..` in it, as long as it leads to the same place: behind a link it may not."""
    plain = Path(os.path.normpath(path))
    with contextlib.suppress(OSError):
        return plain if plain.samefile(path) else path
    return path if path.exists() else plain


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file to read its bytes; a pipe could block its reader forever.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise _not_regular(path) from error  # a socket
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if Path(path).is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    raise _not_regular(path)


def _not_regular(path: str | Path) -> OSError:
    return OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def file_digest(path: Path) -> str:
    """`digest` of a regular file's bytes, read in blocks.

    Raises:
        OSError: The file cannot be read.
    """
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open_file(path) as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def json_digest(value: Any) -> str:
    """`digest` of a JSON-able value, independent of key order."""
    return digest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file aside, then move it to its place: readers see the old file or the whole new one.

    Yields:
        A path of the same name in a temporary folder. It takes the place of `path` when the block ends
        well and is removed when the block raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    with temporary_folder(path.parent) as folder:
        yield folder / path.name
        put(folder / path.name, path)


@contextlib.contextmanager
def new_path(path: Path, option: str = "--out") -> Iterator[Path]:
    """Like `atomic_path`, but never replaces another file; an equal one stays, so that a command that was
    killed after its file was complete can be run again.

    Args:
        path: The file.
        option: What names it on the command line.

    Raises:
        OptionError: The file is there, with other content.
    """
    with atomic_path(path) as temporary:
        yield temporary
        if path.exists() and not (path.is_file() and file_digest(path) == file_digest(temporary)):
            raise is_taken(path, option)


def is_taken(path: Path, option: str = "--out") -> OptionError:
    """The error for an output that would replace something else."""
    return OptionError(f"{path} already exists. Choose another {option}, or remove it first")


def require_new(path: Path, option: str = "--out") -> None:
    """Refuse an output that is there or cannot be made, before work is lost.

    Args:
        path: A file or folder to be created.
        option: What names it on the command line.

    Raises:
        OptionError: It is there, or it cannot be made.
    """
    if os.path.lexists(path):
        raise is_taken(path, option)
    require_writable(path)


def require_new_folder(path: Path, option: str = "--out") -> None:
    """Like `require_new` for a folder: an empty one may be there."""
    if path.is_symlink() or not path.is_dir() or any(path.iterdir()):
        require_new(path, option)
    require_writable(path)
    require_writable(path.parent)


def put(temporary: Path, path: Path) -> None:
    """Flush a file to the disk and move it to its place."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_path` for a new folder: `path` appears with everything in it or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    with temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        temporary.mkdir()
        yield temporary
        temporary.rename(path)
        sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its parents if missing, even if another process is removing it.

    Raises:
        OSError: It cannot be made.
    """
    for _ in range(_TRIES):
        # Path.mkdir fails where the folder is there at first, and gone when it looks what is there.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            path.mkdir(parents=True, exist_ok=True)
            return
    path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A folder in `parent` that goes when the block ends; `remove_leftovers` does it if we are killed.

    Files are made in a folder of their own as that leaves them their names, of any length and suffix,
    and as it can be locked: HDF5 takes the lock of a file for itself.
    """
    folder, descriptor = _make_held(parent)
    try:
        yield folder
    except OSError as error:
        if error.errno == errno.ENOSPC and not error.filename:
            error.filename = str(parent)  # a write does not say where the disk is full
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _make_held(parent: Path) -> tuple[Path, int]:
    """Make a temporary folder and take its lock; another one if `remove_leftovers` was there between."""
    while True:
        folder = parent / f"{TEMPORARY}{os.urandom(8).hex()}"
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            return folder, _hold(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders of killed processes in `folder`: nobody holds their locks.

    Where the file system has no locks they stay.
    """
    for entry in sorted(folder.glob(f"{TEMPORARY}*")):
        with contextlib.suppress(OSError):
            descriptor = os.open(entry, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path, message: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder; it ends with the process, however that happens.

    Without effect where the file system has no locks, as on some network file systems.

    Args:
        folder: It must exist.
        message: What to say when another process has it.
        wait: Log the message and wait.

    Raises:
        OptionError: Another process has it, or has moved the folder, and `wait` is false.
    """
    descriptor = _take(folder, message, wait=wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _take(folder: Path, message: str, *, wait: bool) -> int:
    try:
        return _hold(folder)
    except (BlockingIOError, FileNotFoundError):
        if not wait:
            raise OptionError(message) from None
    logger.warning("%s", message)
    return _hold(folder, wait=True)


def _hold(folder: Path, *, wait: bool = False) -> int:
    """Open a folder and take its lock, where the file system has locks.

    Raises:
        BlockingIOError: Another process has it.
        FileNotFoundError: There is no such folder, or it went before the lock was taken.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, wait=wait)
        if not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        pass  # not every network file system has locks


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file that never changes a second place: by a link, or a copy where there are none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_checked_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write an indented JSON file atomically; its last member, "checksum", protects the rest."""
    kept = json.loads(json.dumps(value))  # as it will be read: keys are text, tuples are lists
    checked = {**kept, _CHECKSUM: json_digest(kept)}
    text = json.dumps(checked, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # the name of a file that is not UTF-8
        text = json.dumps(checked, indent=2)
    write_text(path, text + "\n")


def require_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before work is lost.

    Args:
        path: A file or folder to be created, with its parents, or a folder to create something in.

    Raises:
        OptionError: A parent is a file, or cannot be written to.
    """
    if _URL.match(str(path)):
        raise OptionError(f"{path} is not on this machine, where results are written. Choose another path")
    places = (path.absolute(), *path.absolute().parents)
    parent = next(each for each in places if os.path.lexists(each))
    if not parent.is_dir():
        raise OptionError(f"{path} cannot be created: {parent} is not a folder. Choose another path")
    if not os.access(parent, os.W_OK | os.X_OK) or _is_of_kernel(parent):
        place = "" if parent == path.absolute() else f" cannot be created: {parent}"
        raise OptionError(f"{path}{place} is not writable. Check its permissions, or choose another path")


def _is_of_kernel(folder: Path) -> bool:
    """Whether a folder shows the state of the system: root may write there, and yet nobody can."""
    with contextlib.suppress(OSError):
        mounts = filter(Path.is_mount, map(Path, _OF_KERNEL))
        return folder.stat().st_dev in {each.stat().st_dev for each in mounts}
    return False


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read what `write_checked_json` has written, without its checksum.

    Raises:
        ValueError: It is truncated, not such a file, or changed; the message is one line.
        OSError: It cannot be read.
    """
    try:
        value = read_json(path)
    except (ValueError, RecursionError) as error:  # of a wrong encoding too
        raise ValueError(f"it is not JSON ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(value, dict) or _CHECKSUM not in value:
        raise ValueError("it is not a JSON object with a checksum")
    checksum = value.pop(_CHECKSUM)
    if checksum != json_digest(value):
        raise ValueError("its checksum does not match: it has been changed")
    return value


def sync(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files that appear whole or not at all, their digests, and sorted listings."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastcls.errors import OptionError

DIGEST_BYTES = 16
# How every CSV file is opened; a file name that is not UTF-8 goes through unharmed.
CSV_TEXT: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
_TEMPORARY = ".tmp-"
_CLAIM = ".fastcls-unfinished"
_CHECKSUM = "checksum"


def digest(data: bytes | memoryview) -> str:
    """128-bit BLAKE2b of some bytes as 32 hexadecimal characters: the identity of an image."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


def file_digest(path: Path) -> str:
    """`digest` of a file's bytes, read in blocks.

    Raises:
        OSError: The file cannot be read.
    """
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def json_digest(value: Any) -> str:
    """`digest` of a JSON-able value, independent of key order."""
    return digest(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Write a file beside its place, then move it there: readers see the old file or the whole new one.

    Yields:
        A temporary path in the same folder, with the same suffixes. It takes the place of `path` when
        the block ends well and is removed when the block raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_path` for a new folder: `path` appears with everything in it or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    temporary = temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
        sync(path.parent)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


@contextlib.contextmanager
def resumable_folder(
    path: Path, is_worth: Callable[[Path], bool], *, restart: bool = False
) -> Iterator[Path]:
    """Like `atomic_folder`, but what a process has done that was killed is there for the next one.

    Args:
        path: The folder to make; until it appears, all is in `working_folder(path)`.
        is_worth: Whether what is in that folder is worth going on from; it is removed otherwise.
        restart: Remove what is there.

    Raises:
        OptionError: Another process is making this folder, or there is one of this name that is not ours.
    """
    working = working_folder(path)
    if working.exists() and not working.is_dir():
        raise _not_ours(working)
    working.mkdir(parents=True, exist_ok=True)
    with _locked(working):
        _claim(working)
        if restart or not is_worth(working):
            for entry in sorted(working.iterdir()):
                if entry.name != _CLAIM:
                    _remove(entry)
        try:
            yield working
            working.rename(path)
            unclaim(path)
            sync(path.parent)
        finally:
            if working.exists() and not is_worth(working):
                shutil.rmtree(working)


def working_folder(path: Path) -> Path:
    """Where a folder is made that may take several attempts."""
    return path.with_name(f"{path.name}.unfinished")


def unclaim(path: Path) -> None:
    """Remove the mark that a folder has while it is made; a process that is killed may leave it."""
    (path / _CLAIM).unlink(missing_ok=True)


def _claim(folder: Path) -> None:
    """Mark a folder as one that may be emptied: a user's own may have any name."""
    if any(folder.iterdir()) and not (folder / _CLAIM).exists():
        raise _not_ours(folder)
    (folder / _CLAIM).touch()


def _not_ours(path: Path) -> OptionError:
    return OptionError(f"{path} is needed for what is not finished. Move it away, or choose another --out")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # The lock ends with the process, however that ends.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OptionError(
            f"Another process is at work in {folder}. Wait until it has ended, or choose another --out"
        ) from None
    except OSError:
        pass  # not every network file system has locks
    try:
        yield
    finally:
        os.close(descriptor)


def require_writable(path: Path) -> None:
    """Refuse a place where nothing can be made, before the work that would be lost.

    Args:
        path: A file or folder that is to be made, with its parents, or a folder to make something in.

    Raises:
        OptionError: A parent is a file, or cannot be written to.
    """
    parent = path.absolute()
    while not os.path.lexists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise OptionError(f"{path} cannot be made: {parent} is not a folder. Choose another place")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OptionError(
            f"{path} cannot be made: nothing can be written to {parent}. Correct its permissions, or choose "
            "another place"
        )


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_checked_json(path: Path, value: dict[str, Any]) -> None:
    """Write an indented JSON file atomically; its last member, "checksum", guards the rest."""
    kept = json.loads(json.dumps(value))  # as it will be read: keys are text, tuples are lists
    checked = {**kept, _CHECKSUM: json_digest(kept)}
    text = json.dumps(checked, indent=2, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # the name of a file that is not UTF-8
        text = json.dumps(checked, indent=2)
    write_text(path, text + "\n")


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read what `write_checked_json` has written, without its checksum.

    Raises:
        ValueError: It is truncated, not such a file, or changed; the message is one line.
        OSError: It cannot be read.
    """
    try:
        value = read_json(path)
    except (ValueError, RecursionError) as error:  # of a wrong encoding too
        raise ValueError(f"it is no JSON ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(value, dict) or _CHECKSUM not in value:
        raise ValueError("it is no JSON object with a checksum")
    checksum = value.pop(_CHECKSUM)
    if checksum != json_digest(value):
        raise ValueError("its checksum differs: it has been changed")
    return value


def temporary_sibling(path: Path) -> Path:
    """A name beside `path` that says which process of which machine is writing it."""
    token = os.urandom(4).hex()
    suffix = "".join(path.suffixes[-2:])  # Keras looks for .weights.h5
    return path.with_name(f"{_TEMPORARY}{socket.gethostname()}-{os.getpid()}-{token}{suffix}")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes of this machine left in `folder`."""
    prefix = f"{_TEMPORARY}{socket.gethostname()}-"
    for entry in sorted(folder.glob(f"{_TEMPORARY}*")):
        owner = entry.name.removeprefix(prefix).split("-")[0]
        if entry.name.startswith(prefix) and owner.isdigit() and not _is_running(int(owner)):
            _remove(entry)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Whether a process has ended and only waits to be reaped, as orphans do in many containers."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "Z"

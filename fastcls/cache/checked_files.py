"""Files with digests: those that decide the value of a bottleneck, such as models, are checked when read.

The digests of the files of a folder are in its `digests.json`. They are written before a file gets its
place: a file that does not match its digest is damaged or foreign, whenever a process was killed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

from fastcls import files
from fastcls.backend import import_keras
from fastcls.errors import CacheError
from fastcls.records import made

FILE = "digests.json"
_loaded: dict[Path, Any] = {}


class Digests(TypedDict):
    """What is in the file: what the files belong to, and the digest of each by its name."""

    of: str
    files: dict[str, str]


def keep(path: Path, write: Callable[[Path], Any], *, of: str) -> None:
    """Write a file and record its digest.

    Args:
        path: The file.
        write: Writes it to the path that it is given.
        of: What the files of this folder belong to.
    """
    with files.atomic_path(path) as temporary:
        write(temporary)
        noted = _noted(path.parent, of)
        _write(path.parent, {**noted, path.name: files.file_digest(temporary)}, of)


def note_all(folder: Path) -> None:
    """Record the digests of all files in a folder before it is moved to its place."""
    _write(folder, {path.name: files.file_digest(path) for path in sorted(folder.iterdir())}, "")


def damage(*paths: Path) -> str:
    """The first file that is not intact, and why, as in "trunk.keras is missing"; "" when all are."""
    for path in paths:
        reason = _damage(path)
        if reason:
            return f"{path} {reason}"
    return ""


def require_whole(*paths: Path) -> None:
    """Raise CacheError for the first file that is not intact."""
    reason = damage(*paths)
    if reason:
        raise CacheError(
            f"{reason}. Delete this file and run the same `fastcls extract` again: it recreates the file, "
            "and no bottleneck is lost"
        )


def load_ahead(path: Path) -> None:
    """Load a Keras model for the `load_model` that follows."""
    _loaded[path] = load_model(path)


def load_model(path: Path) -> Any:
    """Load a Keras model from a file after checking its digest.

    Raises:
        CacheError: It is not intact, or cannot be read.
    """
    keras = import_keras()
    if path in _loaded:
        return _loaded.pop(path)
    require_whole(path)
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # where a disk fails, Keras says that there is no file
        raise CacheError(
            f"{path} is intact, but cannot be loaded: {type(error).__name__}: {error}. If the disk works, "
            "delete this file and run the same `fastcls extract` again: it recreates the file"
        ) from error


def read_digests(folder: Path) -> Digests:
    """What a folder's digests are.

    Raises:
        ValueError: They are damaged; the message is a fact.
        OSError: They cannot be read.
    """
    return made(Digests, files.read_checked_json(folder / FILE))


def is_noted(path: Path, *, of: str) -> bool:
    """Whether a file is there and its digest known, for what this folder belongs to; it is not read."""
    return path.is_file() and path.name in _noted(path.parent, of)


def _damage(path: Path) -> str:
    if not path.is_file():
        return "is missing"
    try:
        known = read_digests(path.parent)["files"]
    except FileNotFoundError:
        return f"cannot be checked: {path.parent / FILE} is missing"
    except ValueError as error:
        return f"cannot be checked: {path.parent / FILE} is damaged: {error}"
    is_whole = known.get(path.name) == files.file_digest(path)
    return "" if is_whole else "is damaged: its digest does not match"


def _noted(folder: Path, of: str) -> dict[str, str]:
    try:
        known = read_digests(folder)
    except (FileNotFoundError, ValueError):
        return {}  # its content is made again
    return known["files"] if known["of"] == of else {}


def _write(folder: Path, digests: dict[str, str], of: str) -> None:
    files.write_checked_json(folder / FILE, {"of": of, "files": digests})

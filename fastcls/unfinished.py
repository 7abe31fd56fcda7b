"""Folders that take several attempts to make: what a killed process has done is kept for the next one."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from fastcls import files
from fastcls.errors import OptionError

_CLAIM = ".fastcls-unfinished"


@contextlib.contextmanager
def resumable_folder(
    path: Path, is_worth: Callable[[Path], bool], *, restart: bool = False
) -> Iterator[Path]:
    """Like `atomic_folder`, but the work of a killed process is kept for the next one.

    Args:
        path: The folder to make; until it appears, all is in `working_folder(path)`.
        is_worth: Whether the content of that folder is worth continuing from; otherwise it is removed.
        restart: Remove what is there.

    Raises:
        OptionError: Another process is making this folder, or there is one of this name that is not ours.
    """
    working = working_folder(path)
    _require_ours(working)
    files.make_folder(working)
    with files.locked(working, at_work(working)):
        _claim(working)
        try:
            _require_free(path)
            if restart or not is_worth(working):
                _empty(working)
            for inner in sorted(working.rglob(f"{files.TEMPORARY}*")):
                files.remove_leftovers(inner.parent)
            yield working
            working.rename(path)
            unclaim(path)
            files.sync(path.parent)
        finally:
            if working.exists() and not is_worth(working):
                shutil.rmtree(working)


def working_folder(path: Path) -> Path:
    """Where an output is made that may take several attempts."""
    return path.with_name(f"{path.name}.unfinished")


def require_resumable(path: Path) -> None:
    """Refuse what `resumable_folder` would refuse now; nothing is made or changed.

    Raises:
        OptionError: As there.
    """
    working = working_folder(path)
    _require_ours(working)
    if working.exists():
        with files.locked(working, at_work(working)):
            pass
    _require_free(path)


def unclaim(path: Path) -> None:
    """Remove the mark of an unfinished folder; a killed process may leave it."""
    (path / _CLAIM).unlink(missing_ok=True)


def _claim(folder: Path) -> None:
    """Mark a folder as one that may be emptied: a user's own may have any name."""
    _require_ours(folder)
    (folder / _CLAIM).touch()


def _require_ours(path: Path) -> None:
    """Refuse a working folder that another program, or the user, has made."""
    is_ours = path.is_dir() and ((path / _CLAIM).exists() or not any(path.iterdir()))
    if path.exists() and not is_ours:
        raise OptionError(f"{path} is needed for the unfinished output. Move it, or choose another --out")


def at_work(folder: Path) -> str:
    """The message when another process is writing the same output."""
    return f"Another process is writing to {folder}. Wait for it to end, or choose another --out"


def _require_free(path: Path) -> None:
    """Another process may have finished the same output meanwhile."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise files.is_taken(path)


def _empty(folder: Path) -> None:
    for entry in sorted(folder.iterdir()):
        if entry.name == _CLAIM:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)

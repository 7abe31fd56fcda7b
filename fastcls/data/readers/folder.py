"""Images in a folder: found through symbolic links, and sorted."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from fastcls.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def is_image(name: str) -> bool:
    """Whether a file name has one of `IMAGE_SUFFIXES`, in any case."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class FolderContent:
    """Contents of a folder and its subfolders.

    Attributes:
        images: Sorted POSIX paths relative to the folder.
        broken: Sorted paths that are named like images but are not files: broken links, pipes.
        others: Number of other entries. A hidden folder counts once.
    """

    images: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    others: int = 0


def list_images(folder: Path) -> FolderContent:
    """Find the visible images below a folder, through symbolic links.

    Raises:
        DataError: A folder cannot be listed.
    """
    found = FolderContent()
    others = _scan(folder, "", frozenset(), found)
    return FolderContent(sorted(found.images), sorted(found.broken), others)


def _scan(
    folder: Path | os.DirEntry[str], prefix: str, above: frozenset[tuple[int, int]], found: FolderContent
) -> int:
    above = above | {_identity(folder)}
    left_out = 0
    for entry in _list(folder):
        if entry.name.startswith("."):
            left_out += 1
        elif _is_folder(entry):
            # A link to a parent folder would loop forever.
            looping = entry.is_symlink() and _identity(entry) in above
            left_out += 1 if looping else _scan(entry, f"{prefix}{entry.name}/", above, found)
        elif is_image(entry.name):
            (found.images if _is_file(entry) else found.broken).append(prefix + entry.name)
        else:
            left_out += 1
    return left_out


def _list(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"{os.fspath(folder)} cannot be listed: {error.strerror}. Check its permissions."
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that points to itself.
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # A link that points to itself.
        return False


def _identity(folder: Path | os.DirEntry[str]) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116 (an entry is no Path)
    return status.st_dev, status.st_ino


def visible_folders(folder: Path) -> list[str]:
    return sorted(
        entry.name for entry in _list(folder) if _is_folder(entry) and not entry.name.startswith(".")
    )

"""Images in a folder: found through symbolic links, and sorted; what is left out is named."""

from __future__ import annotations

import functools
import logging
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from fastcls.data.image_files import how_to_read, is_readable
from fastcls.data.image_formats import SUFFIXES, named_kind
from fastcls.data.readers.entries import some
from fastcls.errors import DataError
from fastcls.storage.paths import UrlPath

# What operating systems and tools put into folders; nobody means it.
_JUNK = {".DS_Store", "__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "@eaDir"}
_JUNK |= {".ipynb_checkpoints", ".git", ".gitignore", ".gitattributes", ".gitkeep", ".nomedia"}
_RESOURCE_FORK = "._"  # macOS writes ._photo.jpg beside photo.jpg
logger = logging.getLogger(__name__)


def image_suffixes() -> list[str]:
    """The endings of names of image files that the installed packages read, sorted."""
    return sorted(suffix for kind, known in SUFFIXES.items() if is_readable(kind) for suffix in known)


class Reason(Enum):
    """Why an entry of a folder is left out."""

    JUNK = "made by an operating system or a tool"
    UNREADABLE = "of a format that the installed packages do not read"
    LOOSE = "not in a class folder"
    UNLISTED = "not listed in the metadata of the folder"
    FOLDER = "a hidden folder"
    HIDDEN = "a hidden file"
    OTHER = "named like no image"
    BROKEN = "named like an image, but no file: a broken link or a pipe"
    LOOP = "a link to a folder above it"


# What is said of entries that are left out: of one, of several, and what to do.
_SAID = {
    Reason.UNREADABLE: ("image that is not readable here is", "images that are not readable here are", ""),
    Reason.LOOSE: ("image in no class folder is", "images in no class folder are", ""),
    Reason.UNLISTED: (
        "image without a row in the metadata is",
        "images without a row in the metadata are",
        "",
    ),
    Reason.FOLDER: (
        "hidden folder is",
        "hidden folders are",
        "A class folder needs a name without a dot in front",
    ),
    Reason.HIDDEN: ("hidden file is", "hidden files are", ""),
    Reason.OTHER: ("file that is not named like an image is", "files that are not named like images are", ""),
    Reason.BROKEN: (
        "entry that is named like an image but is not a file (broken link, pipe) is",
        "entries that are named like images but are not files (broken links, pipes) are",
        "",
    ),
    Reason.LOOP: ("link to a folder above it is", "links to folders above them are", ""),
}


class LeftOut(NamedTuple):
    """What is not taken from a folder: its path relative to that (folders end with "/"), and why."""

    path: str
    reason: Reason


@dataclass(frozen=True)
class FolderContent:
    """Contents of a folder and its subfolders.

    Attributes:
        images: Sorted POSIX paths relative to the folder.
        left_out: Everything else, sorted by path. A hidden folder counts once.
    """

    images: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def present(self) -> list[str]:
        """Sorted paths of all image files, those included that the installed packages do not read."""
        return sorted(
            [*self.images, *(path for path, reason in self.left_out if reason is Reason.UNREADABLE)]
        )

    @property
    def broken(self) -> list[str]:
        """Paths that are named like images but are not files: broken links, pipes."""
        return [path for path, reason in self.left_out if reason is Reason.BROKEN]


def list_images(folder: Path) -> FolderContent:
    """Find the visible images below a folder, through symbolic links.

    Raises:
        DataError: A folder cannot be listed.
    """
    found = FolderContent()
    if isinstance(folder, UrlPath):
        _scan_url(folder, found)
    else:
        _scan(folder, "", frozenset(), found)
    return FolderContent(sorted(found.images), sorted(found.left_out, key=lambda each: each.path))


def warn_of_left_out(folder: Path, left_out: Iterable[LeftOut]) -> None:
    """Log what is left out, a line for each reason: how many, the first few names, and what to do."""
    by_reason: dict[Reason, list[str]] = defaultdict(list)
    for path, reason in left_out:
        by_reason[reason].append(path)
    for reason, (one, several, remedy) in _SAID.items():
        if names := by_reason.get(reason, []):
            if reason is Reason.UNREADABLE:
                remedy = ". ".join(sorted({how_to_read(named_kind(name)) for name in names}))
            what = one if len(names) == 1 else several
            logger.warning(
                "%s: %d %s left out: %s%s", folder, len(names), what, some(names), remedy and f". {remedy}"
            )


def _scan(
    folder: Path | os.DirEntry[str], prefix: str, above: frozenset[tuple[int, int]], found: FolderContent
) -> None:
    above = above | {_identity(folder)}
    for entry in _list(folder):
        if _is_image(entry):  # most of them
            found.images.append(prefix + entry.name)
            continue
        path, is_folder = prefix + entry.name, _is_folder(entry)
        reason = _why_left_out(entry, above, is_folder=is_folder)
        if reason:
            found.left_out.append(LeftOut(f"{path}/" if is_folder else path, reason))
        elif is_folder:
            _scan(entry, f"{path}/", above, found)
        else:
            found.images.append(path)


def _scan_url(folder: UrlPath, found: FolderContent) -> None:
    """Take the images below a URL; folders are what their paths say."""
    hidden: dict[str, Reason] = {}
    for path in folder.below():
        *above, name = path.split("/")
        bad = next(
            (place for place, part in enumerate(above) if part.startswith(".") or _is_junk(part)), None
        )
        if bad is not None:
            reason = Reason.JUNK if _is_junk(above[bad]) else Reason.FOLDER
            hidden["/".join(above[: bad + 1]) + "/"] = reason
        elif why := _why_no_image(name):
            found.left_out.append(LeftOut(path, why))
        else:
            found.images.append(path)
    found.left_out.extend(LeftOut(path, reason) for path, reason in hidden.items())


def _why_no_image(name: str) -> Reason | None:
    """Why a file is left out, by its name."""
    if _is_junk(name):
        return Reason.JUNK
    if name.startswith("."):
        return Reason.HIDDEN
    kind = _kind_of(name.rpartition(".")[2]) if "." in name else ""
    return Reason.OTHER if not kind else None if is_readable(kind) else Reason.UNREADABLE


def _is_image(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is certainly taken as an image; the file system is not asked."""
    stem, _, ending = entry.name.rpartition(".")
    if not stem or stem[0] == ".":
        return False
    kind = _kind_of(ending)
    return bool(kind) and is_readable(kind) and entry.is_file(follow_symlinks=False)


@functools.lru_cache
def _kind_of(ending: str) -> str:
    return named_kind(f"image.{ending}")


def _why_left_out(
    entry: os.DirEntry[str], above: frozenset[tuple[int, int]], *, is_folder: bool
) -> Reason | None:
    if _is_junk(entry.name):
        return Reason.JUNK
    if entry.name.startswith("."):
        return Reason.FOLDER if is_folder else Reason.HIDDEN
    if is_folder:
        # A link to a parent folder would loop forever.
        return Reason.LOOP if entry.is_symlink() and _identity(entry) in above else None
    kind = named_kind(entry.name)
    if not kind:
        return Reason.OTHER
    if not _is_file(entry):
        return Reason.BROKEN
    return None if is_readable(kind) else Reason.UNREADABLE


def _is_junk(name: str) -> bool:
    return name in _JUNK or name.startswith(_RESOURCE_FORK)


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
    """Names of the folders in a folder that may be classes or splits, sorted."""
    if isinstance(folder, UrlPath):
        names = (name for name, is_folder in folder.inside() if is_folder)
    else:
        names = (entry.name for entry in _list(folder) if _is_folder(entry))
    return sorted(name for name in names if not name.startswith(".") and not _is_junk(name))

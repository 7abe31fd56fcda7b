"""Where the files are that a table names: paths may be spelled in several ways."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastcls import web
from fastcls.data.image_bytes import located
from fastcls.data.image_formats import named_kind
from fastcls.data.readers.entries import some
from fastcls.data.readers.folder import image_suffixes
from fastcls.data.tfrecord import split_address
from fastcls.errors import GoneError
from fastcls.storage import is_url
from fastcls.storage.paths import as_place

_TRIES = 100  # paths of which no suffix makes a file, before the others are taken as missing too
_COMMON = (".jpg", ".jpeg", ".png")


class Places:
    """Finds the files that a table names.

    Args:
        table: The table.
        root: Folder that its paths are relative to; None for its own.
        suffix: What is appended to each path that does not end so; None for what a path needs to name a file.

    Attributes:
        root: The folder.
        guessed: What is appended to some path, as it was found out.
        needs_suffix: Whether the suffix that the user names is appended to any path.
        missing: Paths of which no file was found.
    """

    def __init__(self, table: Path, root: Path | None, suffix: str | None) -> None:
        self.root = root or table.parent
        self.guessed: list[str] = []
        self.needs_suffix = False
        self.missing: list[str] = []
        self._table, self._suffix, self._is_told = table, suffix or "", suffix is not None
        self._tries = 0 if self._is_told else _TRIES

    def find(self, named: str) -> str:
        """The path of a file, as POSIX has it; of one that is missing, as the table has it."""
        # "./a" and "a" are one file.
        path = _posix(named)
        if not self._suffix and self._exists(path):
            return path
        found = self._spelled(path, self._suffix)
        self.needs_suffix |= bool(found) and not path.endswith(self._suffix)
        found = found or self._spelled(path, "") or self._guess(path)
        if not found:
            suffix = self._suffix or "".join(self.guessed[:1] if not named_kind(path) else ())
            self.missing.append(path + ("" if path.endswith(suffix) else suffix))
        return found or path

    def looks_like_image(self, cell: str) -> bool:
        """Whether a cell is named like an image, or names a file."""
        named = cell.strip()
        if not named:
            return False
        return bool(named_kind(named)) or bool(self._spelled(_posix(named), self._suffix))

    def names_image(self, cell: str) -> bool:
        """Whether a cell looks like an image, or names a file as soon as a suffix is appended."""
        named = cell.strip()
        if self.looks_like_image(cell):
            return True
        known = [] if self._is_told or not named else _suffixes()
        return any(self._spelled(_posix(named), suffix) for suffix in known)

    def require_all(self) -> None:
        """Raise GoneError for missing files."""
        if self.missing:
            raise GoneError(
                f"{self._table} lists files that do not exist or are not regular files "
                f"({len(self.missing):,}): {some(self.missing)}. Paths must be absolute or relative to "
                f"{self.root.absolute()}; use --image-root for another folder{self._hint()}."
            )

    def _spelled(self, path: str, suffix: str) -> str:
        if suffix and not path.endswith(suffix):
            path += suffix
        return next((choice for choice in _spellings(path) if self._exists(choice)), "")

    def _guess(self, path: str) -> str:
        """The file of a path without a suffix: those that other paths needed come first."""
        if not self._tries or named_kind(path):
            return ""
        for suffix in dict.fromkeys([*self.guessed, *_suffixes()]):
            if found := self._spelled(path, suffix):
                if suffix not in self.guessed:
                    self.guessed.append(suffix)
                return found
        self._tries -= 1
        return ""

    def _exists(self, path: str) -> bool:
        return _is_file(self.root, path)

    def _hint(self) -> str:
        path = self.missing[0]
        for folder in (Path(), *_folders(self.root)):
            for suffix in ("", *([] if self._is_told else _suffixes())):
                if any(_is_file(folder, choice + suffix) for choice in _spellings(path)):
                    return f". {path!r} is there with --image-root {folder}"
        return ""


def _spellings(path: str) -> Iterator[str]:
    """A path as it is, as Windows writes it, and as other systems compose letters."""
    yield path
    if "\\" in path:
        yield Path(path.replace("\\", "/")).as_posix()
    if not path.isascii():
        yield from (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))


def _suffixes() -> Sequence[str]:
    lower = [*_COMMON, *(suffix for suffix in image_suffixes() if suffix not in _COMMON)]
    return [*lower, *map(str.upper, lower)]


def _posix(named: str) -> str:
    return named if is_url(named) else Path(named).as_posix()


def _is_file(root: Path, path: str) -> bool:
    place = located(root, split_address(path)[0])
    if is_url(place):  # what is not in a folder that can be listed is asked for when it is read
        return is_url(path) or web.is_url(place) or as_place(place).is_file()
    # Path.is_file raises for a name that is too long. A pipe is not a file: opening one may block forever.
    return os.path.isfile(place)  # noqa: PTH113 (quicker)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return []

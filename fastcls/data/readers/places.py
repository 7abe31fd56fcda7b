"""Where the files are that a table names: paths may be spelled in several ways."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastcls.data.image_formats import named_kind
from fastcls.data.readers.entries import some
from fastcls.data.readers.folder import image_suffixes
from fastcls.data.tfrecord import split_address
from fastcls.errors import DataError

_COMMON = (".jpg", ".jpeg", ".png")


class Places:
    """Finds the files that a table names.

    Args:
        table: The table.
        root: Folder that its paths are relative to; None for its own.
        suffix: What is appended to each path; None for what the first path needs that names no file.

    Attributes:
        root: The folder.
        suffix: What is appended; "" for nothing.
        missing: Paths of which no file was found.
    """

    def __init__(self, table: Path, root: Path | None, suffix: str | None) -> None:
        self.root = root or table.parent
        self.suffix = suffix or ""
        self.missing: list[str] = []
        self._table, self._is_told = table, suffix is not None
        self._is_decided = self._is_told
        self._is_used = not suffix

    def find(self, named: str) -> str:
        """The path of a file, as POSIX has it; of one that is missing, as the table has it."""
        # "./a" and "a" are one file.
        path = Path(named).as_posix()
        if not self.suffix and self._exists(path):
            return path
        found = self._spelled(path, self.suffix)
        self._is_used |= bool(found) and not path.endswith(self.suffix)
        found = found or self._spelled(path, "") or self._guess(path)
        if not found:
            self.missing.append(path + ("" if path.endswith(self.suffix) else self.suffix))
        return found or path

    def looks_like_image(self, cell: str) -> bool:
        """Whether a cell is named like an image, or names a file."""
        named = cell.strip()
        if not named:
            return False
        return bool(named_kind(named)) or bool(self._spelled(Path(named).as_posix(), self.suffix))

    def names_image(self, cell: str) -> bool:
        """Whether a cell looks like an image, or names a file as soon as a suffix is appended."""
        named = cell.strip()
        if self.looks_like_image(cell):
            return True
        known = [] if self._is_decided or not named else _suffixes()
        return any(self._spelled(Path(named).as_posix(), suffix) for suffix in known)

    def require_all(self) -> None:
        """Raise DataError for missing files, and for a suffix that no path needs."""
        if self.missing:
            raise DataError(
                f"{self._table} lists files that do not exist or are not regular files "
                f"({len(self.missing):,}): "
                f"{some(self.missing)}. Paths must be absolute or relative to {self.root}; use --image-root "
                f"for another folder{self._hint()}."
            )
        if not self._is_used:
            raise DataError(
                f"--path-suffix {self.suffix} has no effect: all paths in {self._table} name files "
                "without it. Remove it."
            )

    def _spelled(self, path: str, suffix: str) -> str:
        if suffix and not path.endswith(suffix):
            path += suffix
        return next((choice for choice in _spellings(path) if self._exists(choice)), "")

    def _guess(self, path: str) -> str:
        """The file of a path without a suffix: the first such decides the suffix of all."""
        if self._is_decided or named_kind(path):
            return ""
        self._is_decided = True
        for suffix in _suffixes():
            if found := self._spelled(path, suffix):
                self.suffix = suffix
                return found
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


def _is_file(root: Path, path: str) -> bool:
    # Path.is_file raises for a name that is too long. A pipe is not a file: opening one may block forever.
    return os.path.isfile(os.path.join(root, split_address(path)[0]))  # noqa: PTH113, PTH118 (quicker)


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(entry for entry in root.iterdir() if entry.is_dir())
    except OSError:
        return []

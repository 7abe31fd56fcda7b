"""Images sorted into a folder for each predicted class: links to the files, which stay where they are."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fastcls import files
from fastcls.data.tfrecord import split_address
from fastcls.data.writers.folder import placer
from fastcls.files import PathLike, as_path
from fastcls.inference.sources import no_file
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.inference.results import ImageResult

NO_CLASS = "no class"
_NAME_BYTES = 200  # of a file's name there may be 255, and a number is added
logger = logging.getLogger(__name__)


class Sorting:
    """A folder in the making.

    Attributes:
        counts: How many images each of its folders has.
    """

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._folder, self._place, self._copies = folder, placer("link"), 0
        self._folders: dict[str, str] = {}  # of a class, by its name
        self._placed: set[tuple[str, Path]] = set()
        self._taken: set[str] = set()

    def add(self, result: ImageResult) -> None:
        """Link to an image in the folder of each class that is predicted, once; an unreadable one has none.

        Raises:
            DataError: It is no file of its own.
        """
        if result.path is None or split_address(str(result.path))[1] is not None:
            raise no_file(result.name or f"Image {result.index}")
        if result.probabilities is None:
            return
        for class_name in result.class_names or (NO_CLASS,):
            if (class_name, result.path) not in self._placed:
                self._placed.add((class_name, result.path))
                folder = self._folder_of(class_name)
                self.counts[folder] += 1
                self._copies += self._put(result.path, self._free(folder, result.path.name))

    def complete(self, out: Path) -> None:
        """Say what could not be linked."""
        if self._copies:
            images = count_of(self._copies, "image")
            logger.warning("Copied %s, as %s does not take hard links to them", images, out)

    def _put(self, image: Path, place: Path) -> bool:
        try:
            return self._place(image, place)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(error.errno, error.strerror, str(self._folder.parent.parent)) from error

    def _folder_of(self, class_name: str) -> str:
        """The folder of a class: its name, as far as that is one that a folder can have, and no other has."""
        if class_name not in self._folders:
            plain = "".join("_" if each == "/" or not each.isprintable() else each for each in class_name)
            plain = _cut(f"_{plain[1:]}" if plain[:1] in ("", ".") else plain)
            folder = self._free("", plain)
            folder.mkdir()
            self._folders[class_name] = folder.name
        return self._folders[class_name]

    def _free(self, folder: str, name: str) -> Path:
        """A path for a name that no other has, with a number before its suffix where that is needed."""
        whole = Path(name)
        number, free = 1, Path(folder, name)
        while str(free).casefold() in self._taken:  # some file systems take a and A for the same
            number += 1
            free = Path(folder, f"{_cut(whole.stem)}-{number}{whole.suffix}")
        self._taken.add(str(free).casefold())
        return self._folder / free


def _cut(name: str) -> str:
    """A name of as many bytes as leave room for a number."""
    return os.fsdecode(os.fsencode(name)[:_NAME_BYTES]) if len(os.fsencode(name)) > _NAME_BYTES else name


@contextlib.contextmanager
def sorting(out: PathLike) -> Iterator[Sorting]:
    """Inside, images are sorted into a folder that appears whole when the block ends.

    Args:
        out: The folder; it must be new or empty.

    Raises:
        OptionError: It holds something, or cannot be made.
    """
    folder = as_path(out, "folder")
    files.require_new_folder(folder, "--sort-into")
    with files.atomic_folder(folder) as temporary:
        made = Sorting(temporary)
        yield made
        made.complete(folder)

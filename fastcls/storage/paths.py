"""Places of data: a `Path`, or a URL that reads like one."""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PosixPath
from typing import IO, Any

from fastcls import storage, web
from fastcls.files import as_path
from fastcls.storage.listings import forget, listed, listing_of
from fastcls.storage.ranged import open_url

# A URL that went through `Path`, which makes one slash of two.
_COLLAPSED = re.compile(r"(s3a?|gs|gcs|hf|https?|memory|file|az|abfs):/(?!/)")


class UrlPath(PosixPath):
    """A URL with what readers ask of a `Path`: names, parents, whether it is there, what is in it, its bytes.

    Its text is the URL. What is below it is listed once for a while.
    """

    @classmethod
    def of(cls, url: str) -> UrlPath:
        """The path of a URL, which stays letter by letter as it is."""
        made = cls(url)
        made.__dict__["exact"] = url
        return made

    def __str__(self) -> str:
        exact = self.__dict__.get("exact")
        return exact if exact is not None else re.sub(r"^([a-z0-9+.-]+):/(?!/)", r"\1://", super().__str__())

    def __fspath__(self) -> str:
        return str(self)

    def __reduce__(self) -> Any:
        return UrlPath.of, (str(self),)

    def __truediv__(self, other: Any) -> Any:
        return as_place(other) if storage.is_url(other) else super().__truediv__(other)

    def absolute(self) -> UrlPath:  # type: ignore[override]
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> UrlPath:  # type: ignore[override]
        """Itself."""
        return self

    def exists(self, **_: Any) -> bool:
        """Whether there is an object, or there are objects below."""
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        """Whether there is an object."""
        found = listed(str(self))
        return found[0].stat(found[1]) is not None if found else storage.exists(str(self))

    def is_dir(self, **_: Any) -> bool:
        """Whether there are objects below."""
        if web.is_url(str(self)):
            return False
        listing, path = listing_of(str(self).rstrip("/"))
        return listing.is_folder(path)

    def is_symlink(self) -> bool:
        """No."""
        return False

    def samefile(self, other: Any) -> bool:
        """Whether it is the same URL."""
        return str(self) == str(other)

    def inside(self) -> Iterator[tuple[str, bool]]:
        """Names of what is directly below, and whether each is a folder."""
        listing, path = listing_of(str(self).rstrip("/"))
        return listing.inside(path)

    def below(self) -> Iterator[str]:
        """The paths of all objects below, relative to it, sorted."""
        listing, path = listing_of(str(self).rstrip("/"))
        return listing.below(path)

    def iterdir(self) -> Iterator[UrlPath]:  # type: ignore[override]
        """What is directly below."""
        return (self / name for name, _ in self.inside())

    def open(self, mode: str = "r", *_: Any, **kwargs: Any) -> IO[Any]:  # type: ignore[override]
        """Open it to read: it is asked for in blocks."""
        if set(mode) & set("wax+"):
            raise OSError(f"{self} cannot be opened to write")
        opened = open_url(str(self))
        if "b" in mode:
            return opened
        kept = {name: value for name, value in kwargs.items() if name in ("encoding", "errors", "newline")}
        return io.TextIOWrapper(opened, **kept)


def data_place(given: str | os.PathLike[str], name: str, also: str = "") -> Path:
    """Where data are, as a user gives it; a URL is going to be listed anew.

    Args:
        given: A path, or a URL.
        name: What a message calls it.
        also: What else may be given in its place, for the message.

    Raises:
        OptionError: It is neither.
    """
    place = as_place(given if storage.is_url(given) else as_path(given, name, also))
    if isinstance(place, UrlPath) and place is not given:
        forget(str(place))
    return place


def absolute(place: Path) -> Path:
    """A path from the root of the file system on, a link as it is called; a URL is one already."""
    return place if isinstance(place, UrlPath) else Path(os.path.abspath(place))  # noqa: PTH100


def as_place(given: str | os.PathLike[str]) -> Path:
    """A path, or a URL that reads like one, also if it went through `Path`.

    >>> [str(as_place(text)) for text in ("photos/a.jpg", "s3://bucket/a//b", Path("s3://bucket/photos"))]
    ['photos/a.jpg', 's3://bucket/a//b', 's3://bucket/photos']
    """
    if isinstance(given, UrlPath):
        return given
    text = os.fspath(given)
    if storage.is_url(text):
        return UrlPath.of(text)
    if _COLLAPSED.match(text) and not os.path.lexists(text):
        return UrlPath.of(text.replace(":/", "://", 1))
    return Path(given)


def is_pattern(text: str) -> bool:
    """Whether a text is a pattern, and no path of a file that is there; addresses of the web are none.

    >>> is_pattern("https://example.org/a.jpg?size=1")
    False
    """
    if not glob.has_magic(text) or web.is_url(text):
        return False
    return not (storage.exists(text) if storage.is_url(text) else os.path.lexists(text))


def matching(pattern: str) -> list[Path]:
    """What matches a pattern, sorted; `**` stands for any folders, and hidden names are left out.

    At a URL these are objects. The folder before the first `*` is listed: all below it only if need be.

    Raises:
        StorageError: The store cannot be listed.
    """
    if not storage.is_url(pattern):
        return sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute)
    parts = pattern.split("/")
    first = next(
        (place for place, part in enumerate(parts) if place > 2 and glob.has_magic(part)), len(parts)
    )
    root, wanted = "/".join(parts[:first]), parts[first:]
    if len(wanted) == 1 and wanted != ["**"]:
        names = sorted(name for name, state in storage.children(root).items() if state)
    else:
        listing, path = listing_of(root)
        names = list(listing.below(path))
    return [as_place(storage.join(root, name)) for name in names if _matches(name.split("/"), wanted)]


def _matches(names: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not names
    if wanted[0] == "**":
        shown = next((place for place, name in enumerate(names) if name.startswith(".")), len(names))
        return any(_matches(names[place:], wanted[1:] or ["*"]) for place in range(shown + 1))
    is_shown = bool(names) and names[0].startswith(".") <= wanted[0].startswith(".")
    return is_shown and fnmatchcase(names[0], wanted[0]) and _matches(names[1:], wanted[1:])

"""Sources of `fastcls predict`: what a classifier takes by name, lists on standard input, and cameras."""

from __future__ import annotations

import codecs
import io
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

from fastcls.data.tfrecord import split_address
from fastcls.data.video import Camera, Frame, Video
from fastcls.errors import DataError, OptionError
from fastcls.inference.inputs import Images, named
from fastcls.specs.checks import no_effect
from fastcls.web import Url

STDIN, _CAMERA = "-", "camera:"
_CHUNK = 1 << 16
Item: TypeAlias = Path | Url | Video | Frame


@dataclass(frozen=True)
class Group:
    """Images that come without anybody waiting for the next one.

    Attributes:
        images: As `Classifier.stream` takes them; a list where it is known how many there are.
        is_live: Whether each is to be answered before the next is taken.
    """

    images: Images
    is_live: bool = False


@dataclass(frozen=True)
class _List:
    """A list of sources on standard input."""

    image_key: str | None
    every: int

    def groups(self) -> Iterator[Group]:
        """The lines in the groups in which they arrive, so that none waits for the next.

        Raises:
            DataError: There is no line.
        """
        is_empty = True
        for lines in _arriving():
            is_empty = False
            yield _group([item for line in lines for item in self._items(line)])
        if is_empty:
            raise DataError("There is no path on standard input. Give one in each line")

    def _items(self, line: str) -> Iterable[Item]:
        if "://" not in line and not os.path.lexists(line):
            return [Path(line)]  # unreadable; brackets in its name are no pattern
        try:
            return [*named(line, self.image_key, self.every)]
        except (DataError, OptionError) as error:
            return [Frame(line, None, reason=str(error))]  # the other lines are answered


@dataclass(frozen=True)
class Sources:
    """What a command line names.

    Attributes:
        parts: Items that were found; lists and cameras, of which nothing was taken yet.
    """

    parts: tuple[list[Item] | _List | Camera, ...]

    @property
    def count(self) -> int | None:
        """How many images there are; None where that is not known before they are taken."""
        found = [part for part in self.parts if isinstance(part, list)]
        items = [*itertools.chain(*found)]
        is_known = len(found) == len(self.parts) and not any(isinstance(item, Video) for item in items)
        return len(items) if is_known else None

    @property
    def is_endless(self) -> bool:
        """Whether there is a camera, which only the user ends."""
        return any(isinstance(part, Camera) for part in self.parts)

    def groups(self) -> Iterator[Group]:
        """The images in the order of the command line."""
        found: list[Item] = []
        for part in (*self.parts, None):
            if isinstance(part, list):
                found += part
                continue
            if found:
                yield _group(found)
                found = []
            if isinstance(part, _List):
                yield from part.groups()
            elif part:
                yield Group(part, is_live=True)

    def require_frames(self, option: str) -> None:
        """Refuse an option for frames where there are none.

        Raises:
            OptionError: There is no video, no camera, and no list, of which nothing is known yet.
        """
        for part in self.parts:
            if not isinstance(part, list) or any(isinstance(item, Video) for item in part):
                return
        raise OptionError(no_effect([option], "images: it is for videos and cameras"))

    def require_files(self) -> None:
        """Refuse what is no file of its own, as far as that is known before it is taken.

        Raises:
            DataError: There is a record, an address, a video or a camera.
        """
        for part in self.parts:
            for item in part if isinstance(part, list) else [part] if isinstance(part, Camera) else []:
                if not isinstance(item, Path) or split_address(str(item))[1] is not None:
                    raise no_file(item)


def open_sources(given: Sequence[str], *, image_key: str | None = None, every: int | None = None) -> Sources:
    """Find the images of sources. Cameras are opened; videos and standard input are read later.

    Args:
        given: Files, folders, patterns, addresses and videos as `Classifier.predict` takes them; `-` for a
            list of such on standard input; `camera:0`.
        image_key: The feature of TFRecord files that holds the image; None for those of known tools.
        every: Of videos and cameras, take every Nth frame; None for all.

    Raises:
        DataError: A folder holds no image, no file matches a pattern, or there is no such camera.
        OptionError: Something can only be read once, is no camera, or `every` has no effect.
    """
    for text in given:
        if (text == STDIN or text.startswith(_CAMERA)) and given.count(text) > 1:
            raise OptionError(f"{text} can be read once only. Received: {given.count(text)} times")
    parts = tuple(_part(text, image_key, every or 1) for text in given)
    sources = Sources(parts)
    if every is not None:
        sources.require_frames("--every")
    return sources


def no_file(item: object) -> DataError:
    """The error for what cannot be linked to."""
    name = item.path if isinstance(item, Video) else item.name if isinstance(item, Camera) else item
    return DataError(
        f"Only image files can be sorted: records, addresses, videos and cameras have none to link to. "
        f"Received: {name}"
    )


def _part(text: str, image_key: str | None, every: int) -> list[Item] | _List | Camera:
    if text == STDIN:
        return _List(image_key, every)
    if text.startswith(_CAMERA):
        number = text.removeprefix(_CAMERA)
        if not number.isdecimal():
            raise OptionError(f"Cameras are numbered from 0: camera:0. Received: {text}")
        return Camera(int(number), every)
    return list(named(text, image_key, every))


def _group(items: list[Item]) -> Group:
    return Group(iter(items) if any(isinstance(item, Video) for item in items) else items)


def _arriving() -> Iterator[list[str]]:
    """The lines on standard input that are there at a time; separated by NUL if there is one at the start."""
    rest, separator = b"", b""
    incoming = cast(io.BufferedReader, sys.stdin.buffer)
    while chunk := incoming.read1(_CHUNK):
        chunk = chunk.removeprefix(b"" if separator else codecs.BOM_UTF8)  # of programs of Windows
        separator = separator or (b"\0" if b"\0" in chunk else b"\n")
        *whole, rest = (rest + chunk).split(separator)
        if lines := _decoded(whole):
            yield lines
    if lines := _decoded([rest]):
        yield lines


def _decoded(lines: Sequence[bytes]) -> list[str]:
    return [os.fsdecode(line) for line in (line.removesuffix(b"\r") for line in lines) if line]

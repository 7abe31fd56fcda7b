"""What a classifier takes: image files, folders of them, addresses, videos, bytes, arrays, Pillow images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image

from fastcls import storage
from fastcls.data.decoder import Decoder, UnreadableImage, read_bytes
from fastcls.data.image_bytes import located
from fastcls.data.image_formats import named_kind
from fastcls.data.pillow_images import read_rgb
from fastcls.data.readers.folder import Reason, list_images, warn_of_left_out
from fastcls.data.readers.tfrecord import find_tfrecords, record_addresses
from fastcls.data.tfrecord import split_address
from fastcls.data.video import Frame, Video, is_video
from fastcls.errors import DataError
from fastcls.files import PathLike
from fastcls.storage.paths import UrlPath, as_place, data_place, is_pattern, matching
from fastcls.storage.stores import require_known
from fastcls.web import Url, fetch, is_url, scheme_of

Image: TypeAlias = (
    PathLike | Url | Video | bytes | bytearray | memoryview | np.ndarray | Frame | PIL.Image.Image
)
Images: TypeAlias = Image | Iterable[Image]
# One image, when folders, batches and videos have been taken apart.
Single: TypeAlias = Path | Url | bytes | np.ndarray | Frame | PIL.Image.Image


def each(images: Images, image_key: str | None = None) -> Iterator[Single]:
    """The single images of what a user gives, in order; nothing is taken before it is needed.

    Args:
        images: As `Classifier.predict` takes them.
        image_key: The feature of TFRecord files that holds the image; None for those of known tools.

    Raises:
        DataError: A folder holds no image, an array has another shape or type, or it is no image at all.
    """
    if isinstance(images, (str, os.PathLike)):
        for item in named(images, image_key):
            yield from item if isinstance(item, Video) else [item]
    elif isinstance(images, (Url, Frame)):
        yield images
    elif isinstance(images, (bytes, bytearray, memoryview)):
        yield bytes(images)
    elif isinstance(images, np.ndarray):
        yield from _arrays(images)
    elif isinstance(images, PIL.Image.Image):
        with contextlib.suppress(Exception):  # `pixels` gives the reason
            images.load()  # here, as no two threads may load the same image
        yield images
    elif isinstance(images, Iterable) and not isinstance(images, Mapping) and not hasattr(images, "read"):
        for image in images:
            yield from each(image, image_key)
    else:
        raise DataError(
            f"Expected images as paths, bytes, arrays or Pillow images. Received: {type(images).__name__}"
        )


def listed(images: Images) -> tuple[Iterable[Single], int | None]:
    """The single images, and how many there are where that is known before they are taken."""
    if isinstance(images, (str, os.PathLike)):
        if is_video(os.fspath(images)):
            return each(images), None
        paths = list(each(images))
        return paths, len(paths)
    if isinstance(images, np.ndarray):
        return each(images), len(images) if images.ndim == 4 else 1
    if isinstance(images, (Url, Frame, bytes, bytearray, memoryview, PIL.Image.Image)):
        return each(images), 1
    return each(images), len(images) if isinstance(images, Sized) else None


def opened(image: Single) -> bytes | np.ndarray | PIL.Image.Image:
    """An image with all that can be decoded of it: what is named is read.

    Raises:
        UnreadableImage: It cannot be read.
    """
    if isinstance(image, Path):
        return read_bytes(image)
    if isinstance(image, Url):
        try:
            return fetch(image.address) if is_url(image.address) else storage.read(image.address)
        except OSError as error:
            raise UnreadableImage(f"cannot be fetched: {error.strerror or error}") from error
    if not isinstance(image, Frame):
        return image
    if image.pixels is None:
        raise UnreadableImage(image.reason)
    return image.pixels


def pixels(decoder: Decoder, image: Single) -> np.ndarray:
    """The pixels that a model takes of one image, (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImage: It cannot be read or decoded.
    """
    content = opened(image)
    if isinstance(content, bytes):
        return decoder.decode(content)
    if isinstance(content, np.ndarray):
        return decoder.resize(content)
    if 0 in content.size:
        raise UnreadableImage(f"it has no pixels: {content.width}x{content.height}")
    return decoder.resize(read_rgb(content, content.format or "Pillow image"))


@dataclass(frozen=True)
class Decoded:
    """What a model takes of an image, or why there is nothing.

    Attributes:
        path: Its file, if it has one of its own or is inside of one.
        name: What it is called; "" for bytes, an array or a Pillow image.
        seconds: When it is shown in its video, if it is a frame of one.
        pixels: (H, W, 3) uint8 RGB.
        reason: Why there are none.
    """

    path: Path | None
    name: str
    seconds: float | None
    pixels: np.ndarray | None
    reason: str = ""


def decode(decoder: Decoder, image: Single) -> Decoded:
    """What a model takes of an image."""
    known = (
        image if isinstance(image, Path) else None,
        image.name if isinstance(image, Frame) else str(image) if isinstance(image, (Path, Url)) else "",
        image.seconds if isinstance(image, Frame) else None,
    )
    try:
        return Decoded(*known, pixels(decoder, image))
    except UnreadableImage as error:
        return Decoded(*known, None, str(error))


def named(text: PathLike, image_key: str | None = None, every: int = 1) -> Iterator[Path | Url | Video]:
    """The images and videos that a text names: those of a file, a folder, a pattern, or an address.

    Args:
        text: The text; patterns are text, and no `Path`.
        image_key: See `each`.
        every: Of a video, take every Nth frame.

    Raises:
        DataError: A folder holds no image, or no file matches a pattern.
        OSError: A store cannot be listed.
        OptionError: The scheme of an address is unknown.
    """
    if isinstance(text, UrlPath):  # of a data set
        yield from map(as_place, _at_url(str(text)))
        return
    if isinstance(text, str) and scheme_of(text):
        yield from map(Url, _at_url(text))
        return
    for place in _matching(text) if isinstance(text, str) and is_pattern(text) else [Path(text)]:
        if not _can_be(place):
            yield place  # unreadable
            continue
        for path in _files(place, image_key):
            yield Video(path, every) if is_video(path) and path.is_file() else path


def _at_url(url: str) -> Iterator[str]:
    """The image at a URL, or those below it; the web has no folders."""
    require_known(url)
    if is_pattern(url):
        yield from map(str, _matching(url))
        return
    is_one = is_url(url) or named_kind(url) or split_address(url)[1] is not None
    place = as_place(url) if is_one else data_place(url, "images")
    if is_one or not place.is_dir():
        yield url
        return
    found = list_images(place)
    warn_of_left_out(place, found.left_out)
    if not found.images:
        raise DataError(f"There is no image in {place}")
    yield from (located(place, path) for path in found.images)


def _can_be(place: Path) -> bool:
    """Whether there can be such a file: a name may be too long, or in a folder that may not be entered."""
    try:
        place.is_file()
    except OSError:
        return False
    return True


def _files(place: Path, image_key: str | None) -> Iterator[Path]:
    """The images of a file, a folder with all that is below it, or a TFRecord file."""
    records = find_tfrecords(place)
    for file in records:
        yield from record_addresses(file, image_key)
    if records:
        return
    if image_key is not None:
        raise DataError(f"{place} is not a TFRecord file: --image-key applies only to these. Remove it")
    if not place.is_dir():
        yield place
        return
    found = list_images(place)
    warn_of_left_out(place, (each for each in found.left_out if each.reason is not Reason.BROKEN))
    if not found.images:
        raise DataError(f"There is no image in {place}")
    yield from (place / name for name in sorted([*found.images, *found.broken]))


def _matching(pattern: str) -> list[Path]:
    """The files that match a pattern, sorted; `**` stands for any folders."""
    matched = matching(pattern)
    found = [
        path
        for path in matched
        if isinstance(path, UrlPath) or not (path.is_dir() or _is_in_loop(path))  # stores have no links
    ]
    if not found:
        hint = "" if "**" in pattern else ". `**` stands for any folders: 'photos/**/*.jpg'"
        raise DataError(f"No file matches {pattern!r}{hint}")
    return found


def _is_in_loop(path: Path) -> bool:
    """Whether a path goes through a link to a folder that holds the link: `**` follows it again and again."""
    links = (parent for parent in path.absolute().parents if parent.is_symlink())
    return any(link.parent.resolve().is_relative_to(link.resolve()) for link in links)


def _arrays(images: np.ndarray) -> Iterator[np.ndarray]:
    if (
        images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[-1] != 3
        or 0 in images.shape[-3:]
    ):
        raise DataError(
            "Expected an RGB array of shape (H, W, 3) or (N, H, W, 3) and dtype uint8. "
            f"Received: {images.shape} {images.dtype}"
        )
    yield from images if images.ndim == 4 else [images]

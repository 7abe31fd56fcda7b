"""What a classifier takes: image files, folders of them, bytes, arrays and Pillow images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image

from fastcls.data.decoder import Decoder, UnreadableImage
from fastcls.data.pillow_images import read_rgb
from fastcls.data.readers.folder import Reason, list_images, warn_of_left_out
from fastcls.data.readers.tfrecord import find_tfrecords, record_addresses
from fastcls.errors import DataError
from fastcls.files import PathLike

Image: TypeAlias = PathLike | bytes | bytearray | memoryview | np.ndarray | PIL.Image.Image
Images: TypeAlias = Image | Iterable[Image]
# One image, when folders and batches have been taken apart.
Single: TypeAlias = Path | bytes | np.ndarray | PIL.Image.Image


def each(images: Images, image_key: str | None = None) -> Iterator[Single]:
    """The single images of what a user gives, in order; nothing is taken before it is needed.

    Args:
        images: As `Classifier.predict` takes them.
        image_key: The feature of TFRecord files that holds the image; None for those of known tools.

    Raises:
        DataError: A folder holds no image, an array has another shape or type, or it is no image at all.
    """
    if isinstance(images, (str, os.PathLike)):
        yield from _files(Path(images), image_key)
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
        paths = list(each(images))
        return paths, len(paths)
    if isinstance(images, np.ndarray):
        return each(images), len(images) if images.ndim == 4 else 1
    if isinstance(images, (bytes, bytearray, memoryview, PIL.Image.Image)):
        return each(images), 1
    return each(images), len(images) if isinstance(images, Sized) else None


def pixels(decoder: Decoder, image: Single) -> np.ndarray:
    """The pixels that a model takes of one image, (H, W, 3) uint8 RGB.

    Raises:
        UnreadableImage: It cannot be read or decoded.
    """
    if isinstance(image, Path):
        return decoder.read(image)
    if isinstance(image, bytes):
        return decoder.decode(image)
    if isinstance(image, np.ndarray):
        return decoder.resize(image)
    if 0 in image.size:
        raise UnreadableImage(f"it has no pixels: {image.width}x{image.height}")
    return decoder.resize(read_rgb(image, image.format or "Pillow image"))


@dataclass(frozen=True)
class Decoded:
    """What a model takes of an image, or why there is nothing."""

    path: Path | None
    pixels: np.ndarray | None
    reason: str = ""


def decode(decoder: Decoder, image: Single) -> Decoded:
    """What a model takes of an image."""
    path = image if isinstance(image, Path) else None
    try:
        return Decoded(path, pixels(decoder, image))
    except UnreadableImage as error:
        return Decoded(path, None, str(error))


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

"""The images that are measured on: photos of one size, large ones, tiny ones."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from fastcls.data.dataset import Dataset
from fastcls.machine import cores

QUALITY = 90
_PER_FOLDER = 1000


def list_photos(folder: Path) -> list[str]:
    """Paths of the images of a folder of classes."""
    dataset = Dataset.from_folder(folder)
    return [str(dataset.locate(sample)) for sample in dataset.samples]


def prepare(photos: Path, out: Path, *, size: tuple[int, int] | None, limit: int | None) -> Path:
    """A folder of classes with some of the photos, each class in its share.

    Args:
        photos: A folder of classes.
        out: Folder to make.
        size: (width, height) in pixels to re-encode them at; None to take them as they are.
        limit: How many; None for all. When there are fewer, mirrored ones are added.

    Returns:
        `photos` itself when nothing is to be changed.
    """
    if size is None and limit is None:
        return photos
    chosen = list(_choose(photos, limit))

    def write(item: tuple[Path, int]) -> None:
        path, turn = item
        place = out / path.parent.name / f"{path.stem}-{turn}{'.jpg' if size or turn else path.suffix}"
        if size is None and not turn:
            place.write_bytes(path.read_bytes())
        else:
            _encode(path, place, size, mirrored=turn)

    for path, _ in chosen:
        (out / path.parent.name).mkdir(parents=True, exist_ok=True)
    _side_by_side(write, chosen)
    return out


def enlarge(photos: Path, out: Path, *, size: tuple[int, int], limit: int) -> Path:
    """A folder of classes with some of the photos, enlarged to (width, height)."""
    return prepare(photos, out, size=size, limit=min(limit, len(list_photos(photos))))


def draw_tiny(out: Path, count: int) -> Path:
    """Folders of two classes with so many 8x8 PNG files, no two alike, a thousand in each folder."""
    randomness, made = np.random.default_rng(0), set()
    pixels = randomness.integers(0, 256, (8, 8, 3), np.uint8)
    for number in range(count):
        folder = f"{out}/{'odd' if number % 2 else 'even'}/{number // 2 // _PER_FOLDER:04d}"
        if folder not in made:
            os.makedirs(folder)  # noqa: PTH103 (the number of images is a million)
            made.add(folder)
        pixels[0, :1] = number >> 16, number >> 8 & 255, number & 255
        with open(f"{folder}/{number:07d}.png", "xb") as file:  # noqa: PTH123
            file.write(_png(pixels))
    return out


def _png(pixels: np.ndarray) -> bytes:
    """An RGB image (H, W, 3) uint8 as a PNG file that is not compressed: ten times as quick as an encoder."""
    height, width, _ = pixels.shape
    lines = np.pad(
        pixels.reshape(height, -1), ((0, 0), (1, 0))
    ).tobytes()  # each begins with its filter, none
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _choose(photos: Path, limit: int | None) -> Iterator[tuple[Path, int]]:
    """Photos and how they are mirrored (0: not), each class in its share."""
    paths = list(map(Path, list_photos(photos)))
    count = len(paths) if limit is None else limit
    whole, rest = divmod(count, len(paths))
    for turn in range(whole):
        yield from ((path, turn) for path in paths)
    places = np.linspace(0, len(paths), rest, endpoint=False).astype(int)
    yield from ((paths[place], whole) for place in places)


def _encode(path: Path, place: Path, size: tuple[int, int] | None, *, mirrored: int) -> None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return  # unreadable photos are no part of a benchmark
    if size:
        larger = size[0] > image.shape[1]
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if larger else cv2.INTER_AREA)
    if mirrored:  # the quality tells further rounds apart
        image = cv2.flip(image, (mirrored + 1) % 3 - 1)
    cv2.imwrite(str(place), image, [cv2.IMWRITE_JPEG_QUALITY, max(50, QUALITY - mirrored // 4)])


def _side_by_side(function: object, items: Iterable[object]) -> None:
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(function, items))  # type: ignore[arg-type]

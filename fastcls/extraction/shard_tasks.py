"""Split what has to be forwarded into shard tasks; images that may be identical stay together."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcls.data import image_bytes
from fastcls.machine import cores
from fastcls.parallel import ahead
from fastcls.specs import ViewSpec
from fastcls.storage import is_url


class Wanted(NamedTuple):
    """An image that lacks a row.

    Attributes:
        path: POSIX path.
        views: How many views it is to have.
        rows: How many of them are not there, as far as is known before the file is read.
        caches: Which of the caches that are filled at once lack one, by their places.
        digest: Its identity; "" as long as it is not known.
    """

    path: str
    views: int = 1
    rows: int = 1
    caches: tuple[int, ...] = (0,)
    digest: str = ""


@dataclass(frozen=True)
class ShardTask:
    """The unit of work: images to turn into the rows of one shard of each cache.

    Attributes:
        root: Folder that the paths are relative to, absolute.
        images: What to read.
        views: What their views are.
        joined: Places of images that may be identical to the one before.
        name: What its shards are called, wherever and however often it is run; "" for the name of their
            content.
    """

    root: Path
    images: tuple[Wanted, ...]
    views: ViewSpec
    joined: frozenset[int] = frozenset()
    name: str = ""

    def lacking(self) -> ShardTask | None:
        """The task of the images that some cache lacks a row of; None if there is none."""
        places = [place for place, image in enumerate(self.images) if image.caches]
        if len(places) == len(self.images):
            return self
        images = tuple(self.images[place] for place in places)
        joined = frozenset(
            new
            for new, (before, place) in enumerate(itertools.pairwise(places), 1)
            if self.joined.issuperset(range(before + 1, place + 1))
        )
        return replace(self, images=images, joined=joined) if images else None

    @property
    def is_remote(self) -> bool:
        """Whether images are at URLs, so that most threads that read wait for a network."""
        return is_url(os.fspath(self.root)) or any(is_url(image.path) for image in self.images)

    def halves(self) -> tuple[ShardTask, ShardTask]:
        """Two tasks of half as much each; what may be identical is torn only where there is nothing else."""
        count = len(self.images)
        places = [place for place in range(1, count) if place not in self.joined] or range(1, count)
        middle = min(places, key=lambda place: abs(place - count // 2))
        return self._part(0, middle, "0"), self._part(middle, count, "1")

    def _part(self, start: int, stop: int, name: str) -> ShardTask:
        joined = frozenset(place - start for place in self.joined if start < place < stop)
        name = f"{self.name}-{name}" if self.name else ""
        return ShardTask(self.root, self.images[start:stop], self.views, joined, name)


@dataclass(frozen=True)
class Work:
    """What has to be forwarded.

    Attributes:
        root: Folder that the paths are relative to, absolute.
        images: Images that some cache lacks a row of.
        views: What each image to train on is to have.
    """

    root: Path
    images: list[Wanted]
    views: ViewSpec

    @classmethod
    def of(cls, root: Path, missing: Sequence[Sequence[Wanted]], views: ViewSpec) -> Work:
        """What some caches lack, each image once.

        Args:
            root: Folder that the paths are relative to, absolute.
            missing: The images that each cache lacks.
            views: What each image to train on is to have.
        """
        if len(missing) == 1:
            return cls(root, sorted(missing[0]), views)
        images: dict[str, Wanted] = {}
        for place, lacked in enumerate(missing):
            for image in lacked:
                same = images.get(image.path, image._replace(caches=()))
                rows, digest = max(same.rows, image.rows), same.digest or image.digest
                images[image.path] = same._replace(rows=rows, caches=(*same.caches, place), digest=digest)
        return cls(root, sorted(images.values()), views)

    @property
    def rows(self) -> int:
        """How many bottlenecks of one cut, at most, have to be computed."""
        return sum(image.rows for image in self.images)

    def tasks(self, size: int, batch_size: int, workers: int) -> list[ShardTask]:
        """Split what is missing into shard tasks: as many rows for each worker, in whole batches.

        The views of one image stay together, and so do images that may be identical, where the first of
        them is: an image of which no other task has a copy is forwarded once.

        Args:
            size: Rows per task at most, unless one image has more.
            batch_size: Rows per forward pass.
            workers: How many share the work.
        """
        rounds = math.ceil(self.rows / (size * max(1, workers)))
        fair = math.ceil(self.rows / max(1, rounds * max(1, workers)))
        size = min(size, math.ceil(fair / batch_size) * batch_size)
        units = _Units.of(self.root, self.images, size)
        of_image, unit_rows = units.of_image.tolist(), units.rows.tolist()
        tasks: list[ShardTask] = []
        places: list[int] = []
        last, rows = -1, 0
        for place in units.order.tolist():
            unit = of_image[place]
            added = 0 if unit == last else unit_rows[unit]
            if places and rows + added > size:
                tasks.append(self._task(places, units))
                places, rows = [], 0
            places.append(place)
            last, rows = unit, rows + added
        return [*tasks, self._task(places, units)] if places else tasks

    def _task(self, places: Sequence[int], units: _Units) -> ShardTask:
        kinds = units.of_image[places]
        joined = frozenset((np.flatnonzero(kinds[1:] == kinds[:-1]) + 1).tolist())
        return ShardTask(self.root, tuple(self.images[place] for place in places), self.views, joined)


@dataclass(frozen=True)
class _Units:
    """Which images may be identical.

    Attributes:
        of_image: (N,) int64, the unit of each image.
        rows: (U,) int64, how many rows a unit has at most.
        order: (N,) int64, the images unit by unit, each where its first one is.
    """

    of_image: np.ndarray
    rows: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, root: Path, images: Sequence[Wanted], size: int) -> _Units:
        """Group images by their digests or, where these are not known, by their numbers of bytes.

        Args:
            root: Folder that the paths are relative to, absolute.
            images: The images.
            size: Of more rows than this, images of as many bytes are read to tell them apart.
        """
        rows = np.fromiter((image.rows for image in images), np.int64, len(images))
        known = np.fromiter((bool(image.digest) for image in images), bool, len(images))
        of_image = np.zeros(len(images), np.int64) if known.all() else _by_size(root, images)
        count = of_image.max(initial=0) + 1
        totals = np.bincount(of_image, rows, count)
        is_known = np.bincount(of_image, known, count) == np.bincount(of_image, minlength=count)
        several = np.bincount(of_image, minlength=count) > 1
        told_apart = np.flatnonzero((several & (is_known | (totals > size)))[of_image])
        of_image[told_apart] = count + _by_digest(root, [images[place] for place in told_apart.tolist()])
        _, first, of_image = np.unique(of_image, return_index=True, return_inverse=True)
        sums, most = np.bincount(of_image, rows).astype(np.int64), np.zeros(len(first), np.int64)
        np.maximum.at(most, of_image, rows)
        is_one = np.zeros(len(first), bool)  # image, in several files
        is_one[of_image[told_apart]] = True
        return cls(of_image, np.where(is_one, most, sums), np.argsort(first[of_image], kind="stable"))


def _by_size(root: Path, images: Sequence[Wanted]) -> np.ndarray:
    paths = (image_bytes.located(root, image.path) for image in images)
    sizes = np.fromiter(image_bytes.sizes(paths), np.int64, len(images))
    unknown = np.flatnonzero(sizes < 0)
    sizes[unknown] = -1 - unknown  # nothing is known to be like them
    return np.unique(sizes, return_inverse=True)[1]


def _by_digest(root: Path, images: Sequence[Wanted]) -> np.ndarray:
    threads = max(4, cores())  # most of the time they wait for the disk
    unknown = [image_bytes.located(root, image.path) for image in images if not image.digest]
    # To the end: where Ctrl-C meets a generator that is given up, Python drops the interrupt.
    read = iter([*ahead(image_bytes.digest_or_blank, unknown, threads=threads, depth=64 * threads)])
    numbers: dict[str, int] = {}
    kinds = (numbers.setdefault(image.digest or next(read) or image.path, len(numbers)) for image in images)
    return np.fromiter(kinds, np.int64, len(images))

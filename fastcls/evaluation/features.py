"""The images of a data set as rows of features, read from a cache."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcls import files
from fastcls.cache.index import Rows
from fastcls.cache.listing import Listing, listings
from fastcls.cache.samples import Failure
from fastcls.cache.store import Cache
from fastcls.errors import CacheError
from fastcls.evaluation.from_cache import require_cache
from fastcls.files import PathLike
from fastcls.runs import Run
from fastcls.tasks import Task
from fastcls.training.rows.cached import require_memory_of
from fastcls.used_images import UsedImage

_BLOCK_BYTES = 1 << 26
_PER_IMAGE = ("rows", "digests", "paths", "names", "splits", "labels", "groups", "uses", "quality")


@dataclass(frozen=True, eq=False)
class Features:
    """A data set's rows of a cache, in the order of its table; images without a row are left out.

    Attributes:
        rows: (N, D) float32, the bottlenecks of the images without augmentation; maps (H, W, D) are averaged
            over their positions.
        digests: (N,) str, the identities of the images.
        paths: POSIX paths relative to `root`.
        names: The class names of each image; () of one without.
        splits: "train", "val" or "test" of each image; "" of data that are not split.
        class_names: Sorted.
        task: What is asked of an image.
        labels: (N,) int64 or (N, C) uint8, as the task encodes `names`.
        root: Folder that the paths are relative to, absolute.
        groups: Images of one non-empty group belong together.
        quality: (N, Q) float32, what was measured of the images when they were decoded, in the order of
            `pixel_quality.COLUMNS`; NaN of those that an earlier version has decoded.
        size: (height, width) of the pixels that the network takes.
        failures: Images that could not be read.
        missing: How many further images have no row yet: the cache is partial.
        uses: "train", "val", "refit" or "earlier" of each image that had a part in a run, else ""; see
            `features_of_run`.
        name: The data set in the cache.
        fingerprint: Of the cache.
    """

    rows: np.ndarray
    digests: np.ndarray
    paths: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    splits: tuple[str, ...]
    class_names: tuple[str, ...]
    task: Task
    labels: np.ndarray
    root: str
    groups: tuple[str, ...]
    quality: np.ndarray
    size: tuple[int, int]
    failures: tuple[Failure, ...] = ()
    missing: int = 0
    uses: tuple[str, ...] = ()
    name: str = ""
    fingerprint: str = ""

    @classmethod
    def of(cls, cache: Cache | PathLike, name: str | None = None) -> Features:
        """Read the rows of a data set.

        Args:
            cache: The cache, its folder, or a folder of caches.
            name: The data set; None for that of the cache, or the only one in it.

        Raises:
            CacheError: There is no such cache or data set, there are several to choose from, it is damaged,
                or it has no row of this data set.
        """
        known = Cache.of(cache, name)
        return _read(known, known.listing)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, places: Sequence[int] | np.ndarray) -> Features:
        """Some of the images, in another order.

        Args:
            places: Their places, or (N,) bool that is true for those to take.
        """
        chosen = np.asarray(places)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        listed = chosen.tolist()

        def pick(values: Any) -> Any:
            if isinstance(values, np.ndarray):
                return values[chosen]
            return tuple(values[place] for place in listed) if values else values

        return replace(self, **{name: pick(getattr(self, name)) for name in _PER_IMAGE})

    @property
    def identity(self) -> dict[str, str]:
        """Which bottlenecks of which images these are, in any order."""
        images = files.json_digest(sorted(self.digests.tolist()))
        return {"fingerprint": self.fingerprint, "images_digest": images}

    def part(self, *splits: str) -> Features:
        """The images of some splits."""
        return self.take([place for place, split in enumerate(self.splits) if split in splits])


def features_of_run(run: Run) -> Features:
    """The rows of the data set that a run was trained on, with the part that each image had in it.

    A cache does not know under which name a run has used it: of its data sets, it is the one with the most
    images of the run, in the classes that they had there.

    Args:
        run: A run with a head.

    Raises:
        OptionError: The run has no cache that can be used; the message says why.
        CacheError: The cache is damaged, or has no row of the data set.
    """
    found = require_cache(run, "Give a run of `fastcls run` or `fastcls train-head` beside its cache")
    images = run.used.images
    uses = {image.digest: image.use for image in reversed(images)}
    features = _read(found.cache, listing_of(found.cache, images))
    return replace(features, uses=tuple(uses.get(digest, "") for digest in features.digests.tolist()))


def listing_of(cache: Cache, images: Sequence[UsedImage]) -> Listing:
    """The data set of a cache that has the most of some images in their classes, then the most of them.

    Of several, it is the one with the fewest images of other classes, then the one that was extracted last.
    Others may list the same images: without classes, as `fastcls suggest` does, in other ones, or beside
    images of more classes.

    Raises:
        CacheError: There is none, or its tables are damaged.
    """
    known = listings(cache.folder)
    if len(known) < 2:
        return cache.listing
    wanted = {image.digest: image.labels for image in images}
    class_names = {name for image in images for name in image.labels}

    def rank(listing: Listing) -> tuple[int, int, int, str]:
        table = listing.samples()
        found = zip(table.digests.astype("U32").tolist(), table.labels, strict=True)
        same = [wanted[digest] == labels for digest, labels in found if digest in wanted]
        foreign = sum(not class_names.issuperset(labels) for labels in table.labels)
        return sum(same), len(same), -foreign, listing.report().written

    return max(known, key=rank)


def _read(cache: Cache, listing: Listing) -> Features:
    report, samples = listing.report(), listing.samples()
    located = cache.index().locate(samples.digests)
    present = np.flatnonzero(located.present)
    failures = tuple(listing.failures())
    failed = {failure.path for failure in failures}
    absent = np.flatnonzero(~located.present).tolist()
    missing = sum(samples.paths[place] not in failed for place in absent)
    if not len(present):
        raise CacheError(
            f"Cache {cache.folder} has no bottleneck of the {len(samples):,} images of {listing.name}. Run "
            "the same `fastcls extract` again to complete it"
        )
    known = samples if len(present) == len(samples) else samples.take(present)
    class_names = tuple(sorted({name for labels in {*samples.labels} for name in labels}))
    return Features(
        rows=_pooled(located.take(present), cache.manifest.shape),
        digests=known.digests.astype("U32"),
        paths=tuple(known.paths),
        names=tuple(known.labels),
        splits=tuple(known.splits),
        class_names=class_names,
        task=report.task,
        labels=report.task.encode(known.labels, class_names),
        root=report.root,
        groups=tuple(known.groups),
        quality=located.take(present).read_quality(),
        size=cache.manifest.size,
        failures=failures,
        missing=missing,
        name=listing.name,
        fingerprint=cache.manifest.fingerprint,
    )


def _pooled(rows: Rows, shape: tuple[int, ...]) -> np.ndarray:
    """The mean of each channel: (N, D) float32; no more than a block is in memory as it is stored."""
    require_memory_of(
        len(rows), shape[-1], "This command", "Use a machine with more, or a part of the images"
    )
    output = np.empty((len(rows), shape[-1]), np.float32)
    for places in rows.blocks(max(1, _BLOCK_BYTES // (4 * math.prod(shape)))):
        block = rows.take(places).read().astype(np.float32, copy=False)
        output[places] = block.reshape(len(block), -1, shape[-1]).mean(axis=1) if len(shape) > 1 else block
    return output

"""The images that an export is checked on, and calibrated with."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder, UnreadableImage, affordable_pixels, read_bytes
from fastcls.data.unlabeled import open_unlabeled
from fastcls.errors import CacheError, DataError, GoneError
from fastcls.evaluation.features import listing_of
from fastcls.evaluation.from_cache import CachedRun
from fastcls.evaluation.gone import as_dataset
from fastcls.files import PathLike
from fastcls.inference.classifier import Classifier

CALIBRATION = 100  # images; more have not made int8 better
_TO_CHECK, _TO_CALIBRATE = ("test", "val", "train", ""), ("train", "val", "")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Photos:
    """Images as a classifier takes them.

    Attributes:
        pixels: (N, H, W, 3) uint8 RGB.
        digests: Their identities.
        labels: The names of the classes of each; None of data without classes.
        files: Their paths.
    """

    pixels: np.ndarray
    digests: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...] | None
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def told(self) -> dict[str, Any]:
        """How many there are, and which: a digest of theirs."""
        return {"images": len(self), "digest": files.json_digest(self.digests)}


def known_photos(source: CachedRun | None) -> Dataset | None:
    """The data set that a run was trained on, as its cache lists it; None where there is none."""
    if source is None:
        return None
    try:
        listing = listing_of(source.cache, source.run.used.images)
        return as_dataset(listing, listing.report())
    except CacheError as error:
        logger.warning("%s", error)
        return None


def open_photos(place: PathLike, read: Callable[[Any], Dataset] = Dataset.of) -> Dataset:
    """Images to check on: a data set, or a folder of images without classes.

    Args:
        place: Where they are.
        read: What reads a data set.

    Raises:
        DataError: There are none.
    """
    try:
        return read(place)
    except GoneError:
        raise
    except DataError:
        if not Path(place).is_dir():
            raise
        return open_unlabeled(place)


def to_check(dataset: Dataset, classifier: Classifier, count: int) -> Photos:
    """Images to check an export on: of the test part, as far as it goes, then of the others."""
    return _take(dataset, classifier, count, _TO_CHECK)


def to_calibrate(dataset: Dataset, classifier: Classifier) -> Photos:
    """Images to find the ranges of int8 on: none of the test part."""
    return _take(dataset, classifier, CALIBRATION, _TO_CALIBRATE)


def _take(dataset: Dataset, classifier: Classifier, count: int, parts: Sequence[str]) -> Photos:
    decoder = Decoder(classifier.pixels, affordable_pixels(1))
    found: list[tuple[np.ndarray, str, tuple[str, ...], Path]] = []
    for place in _in_turn(dataset, parts):
        if len(found) == count:
            break
        sample = dataset.samples[place]
        path = dataset.locate(sample)
        try:
            data = read_bytes(path)
            found.append((decoder.decode(data), files.digest(data), dataset.names_of(sample), path))
        except UnreadableImage:  # it is gone, or was never any good
            continue
    pixels = [image for image, *_ in found]
    stacked = np.stack(pixels) if pixels else np.zeros((0, *classifier.size, 3), np.uint8)
    _, digests, labels, paths = zip(*found, strict=True) if found else ((), (), (), ())
    return Photos(stacked, digests, labels if dataset.class_names else None, paths)


def _in_turn(dataset: Dataset, parts: Sequence[str]) -> Iterator[int]:
    """Places of images, part by part, drawn from all classes in turn: the same ones each time."""
    random = np.random.default_rng(0)
    for part in parts:
        places = np.array([n for n, sample in enumerate(dataset.samples) if sample.split == part], np.int64)
        names = [dataset.names_of(dataset.samples[place]) for place in places.tolist()]
        pools = [np.arange(len(places))]
        if dataset.class_names and len(places):
            pools = dataset.task.pools(dataset.task.encode(names, dataset.class_names))
        shuffled = [random.permutation(pool).tolist() for pool in pools]
        turns = (place for turn in itertools.zip_longest(*shuffled) for place in turn if place is not None)
        yield from (int(places[place]) for place in dict.fromkeys(turns))

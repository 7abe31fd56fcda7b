"""Images that are gone, while the cache of a run still knows them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fastcls.cache.listing import Listing, Report, listings
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset, Sample
from fastcls.errors import CacheError, GoneError
from fastcls.evaluation.from_cache import cache_of
from fastcls.runs import Run
from fastcls.specs import FeaturesSpec
from fastcls.storage.paths import as_place

logger = logging.getLogger(__name__)


def open_tested(
    read: Callable[[], Dataset], data: Path, place: Path | None, features: FeaturesSpec
) -> Dataset:
    """Read a data set; one whose images are gone as the cache of a run lists it, with a warning.

    Args:
        read: What reads it.
        data: What it is read from.
        place: A run folder, or the file of a classifier; None for one that was never saved.
        features: Whether, and where, the cache may be used.

    Raises:
        DataError: As `read` does; images are gone, and no table of the cache is of these data.
    """
    try:
        return read()
    except GoneError as error:
        source = None
        if place and not features.through_model:
            source = cache_of(Run.of(place), features.cache)
        origin = os.path.abspath(data)  # noqa: PTH100 (a link stays what it is called)
        for listing, report in _tables(source.cache) if source else []:
            if report.data == origin:
                dataset = as_dataset(listing, report)
                logger.warning(
                    "%s\n%s lists %s: these are tested", error, listing.samples_path, dataset.counted
                )
                return dataset
        raise


def recall_digests(cache: Cache, dataset: Dataset, digests: Sequence[str]) -> list[str]:
    """Digests of images, with those that could not be read as the tables of a cache have them.

    Args:
        cache: The cache.
        dataset: The images.
        digests: Of each of them; "" of those that cannot be read.
    """
    root = str(dataset.root.absolute())
    blank = {sample.path for sample, digest in zip(dataset.samples, digests, strict=True) if not digest}
    known: dict[str, str] = {}
    for listing, report in _tables(cache) if blank else []:
        if report.root == root:
            table = listing.samples()
            pairs = zip(table.paths, table.digests.astype("U32").tolist(), strict=True)
            known |= {path: digest for path, digest in pairs if path in blank}
    samples = zip(dataset.samples, digests, strict=True)
    return [digest or known.get(sample.path, "") for sample, digest in samples]


def _tables(cache: Cache) -> list[tuple[Listing, Report]]:
    """What a cache lists, as far as it is whole."""
    found = []
    for listing in listings(cache.folder):
        try:
            found.append((listing, listing.report()))
        except CacheError as error:
            logger.warning("%s", error)
    return found


def as_dataset(listing: Listing, report: Report) -> Dataset:
    """What a table of a cache lists, as a data set."""
    table = listing.samples()
    class_names = tuple(sorted({name for names in table.labels for name in names}))
    index = {name: label for label, name in enumerate(class_names)}
    rows = zip(table.paths, table.labels, table.splits, table.groups, strict=True)
    samples = (Sample(path, tuple(index[name] for name in names), *rest) for path, names, *rest in rows)
    return Dataset(
        as_place(report.root), class_names, tuple(samples), task=report.task, source=as_place(report.data)
    )

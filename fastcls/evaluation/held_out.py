"""Which images of a data set a classifier is tested on: all, or those that had no part in its training.

A run keeps the digests of the images that it was trained and validated on; the cache's table of its data set
knows which it held out. What neither of them knows is new.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fastcls.cache.listing import Listing
from fastcls.data.dataset import Dataset
from fastcls.errors import CacheError, DataError, OptionError
from fastcls.evaluation.features import listing_of
from fastcls.evaluation.from_cache import CachedRun, find_cache
from fastcls.runs import Run
from fastcls.specs import SplitSpec
from fastcls.used_images import UsedImages
from fastcls.wording import count_of

ALL, NEW = "all", "new"
_TEST = "test"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """Which images of a data set are tested.

    Attributes:
        places: Theirs.
        used: How many others had a part in the training, so that they are left out.
        added: How many of those tested are not in the data set of the run; None where its table is not to be
            found.
    """

    places: list[int]
    used: int = 0
    added: int | None = None


@dataclass(frozen=True)
class _Known:
    """What the table of the run's data set says of digests.

    Attributes:
        splits: Of each image.
        failed: Digests of images that gave no bottleneck: they had no part in the training for that alone.
    """

    splits: dict[str, str]
    failed: frozenset[str]


def choose_images(
    tested: Dataset,
    digests: Sequence[str],
    used: UsedImages,
    run: Run | None,
    *,
    asked: str | None = None,
    cache: str | None = None,
) -> Chosen:
    """Choose the images of a data set that are tested.

    Args:
        tested: The images, of its test part where it is split.
        digests: Their identities; "" of those that cannot be read.
        used: The images that had a part in the training.
        run: The run; None for a classifier that belongs to none.
        asked: "all"; "new", those that had no part in the training; None for these if the run has held out
            some of the images itself, else for all.
        cache: Where the cache of the run may be, besides where it was.

    Raises:
        OptionError: "new", where it is unknown which images had a part in the training.
        DataError: "new", where all of them had.
    """
    everything = Chosen([*range(len(digests))])
    of_training = {image.digest for image in used.images}
    is_mixed = not of_training.isdisjoint(digests)
    if asked == NEW:
        _require_new(tested, digests, used, of_training)
    if asked == ALL or not is_mixed or not used.is_complete:
        return everything
    known = _known(find_cache(run, cache), used) if run else None
    if asked is None and not _is_any_held_out(digests, of_training, known, run):
        return everything
    return _unused(digests, of_training, known)


def _unused(digests: Sequence[str], of_training: set[str], known: _Known | None) -> Chosen:
    """The images that had no part in the training, and could have had none for being unreadable alone."""
    left_out = {*of_training}
    if known:
        left_out |= {digest for digest in known.failed if known.splits.get(digest, _TEST) != _TEST}
    places = [place for place, digest in enumerate(digests) if digest not in left_out]
    added = sum(bool(digests[p]) and digests[p] not in known.splits for p in places) if known else None
    return Chosen(places, sum(digest in of_training for digest in digests), added)


def _require_new(tested: Dataset, digests: Sequence[str], used: UsedImages, of_training: set[str]) -> None:
    if not used.is_complete:
        raise OptionError(
            "It is unknown which images this classifier was trained on, so --images new has no meaning. Test "
            "a run folder, or remove --images"
        )
    if of_training.issuperset(digests):
        raise DataError(
            f"All {count_of(len(digests), 'image')} of {tested.given} had a part in the training, and none "
            "is left to test. Give others, or remove --images"
        )


def _is_any_held_out(
    digests: Sequence[str], of_training: set[str], known: _Known | None, run: Run | None
) -> bool:
    """Whether a run has held out some images, as far as its data set or its request tells."""
    unused = {*filter(None, digests)} - of_training
    if known:
        return any(known.splits.get(digest) == _TEST for digest in unused)
    if run is None or not unused or not run.asked.get("splits"):
        return False
    return bool(run.spec("splits", lambda asked: SplitSpec(**asked)).test)


def _known(source: CachedRun | None, used: UsedImages) -> _Known | None:
    """What the table of the data set of a run says; None without one that can be read."""
    if source is None:
        return None
    try:
        return _read(listing_of(source.cache, used.images))
    except CacheError as error:
        logger.warning("%s", error)
        return None


def _read(listing: Listing) -> _Known:
    table = listing.samples()
    splits = dict(zip(table.digests.astype("U32").tolist(), table.splits, strict=True))
    return _Known(splits, frozenset(failure.digest for failure in listing.failures()))

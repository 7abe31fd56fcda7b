"""Identical images under different labels: at most one of the labels is right."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path

from fastcls.data import image_bytes
from fastcls.data.readers.entries import some
from fastcls.errors import DataError
from fastcls.parallel import spread
from fastcls.wording import count_of

# Path, digest ("" where unknown) and labels of an image.
_Image = tuple[str, str, tuple[str, ...]]
_SHOWN = 3
logger = logging.getLogger(__name__)


def find_conflicts(images: Iterable[_Image]) -> list[list[_Image]]:
    """The images of each digest that comes with different labels, sorted.

    >>> find_conflicts([("a", "1", ("x",)), ("b", "2", ("x",)), ("c", "1", ("y",))])
    [[('a', '1', ('x',)), ('c', '1', ('y',))]]
    """
    by_digest = itertools.groupby(sorted(images, key=itemgetter(1)), key=itemgetter(1))
    groups = (sorted(group) for digest, group in by_digest if digest)
    return sorted(group for group in groups if len({labels for _, _, labels in group}) > 1)


def warn_of_conflicts(source: object, images: Iterable[_Image]) -> None:
    """Name and count the images that have different labels.

    Args:
        source: What the data set is called.
        images: Path, digest ("" where unknown) and labels of each.
    """
    if conflicts := find_conflicts(images):
        fact = _described(source, conflicts)
        logger.warning("%s. They are kept; --conflicts drop leaves them out", fact)


def drop_conflicts(
    source: object, paths: Sequence[Path], labels: Sequence[tuple[str, ...]], *, stops: bool
) -> set[int]:
    """Places of the images that have different labels; all files are read.

    Args:
        source: What the data set is called.
        paths: Of the images.
        labels: Of the images.
        stops: Refuse such images.

    Raises:
        DataError: There are such images, and `stops`.
    """
    digests = list(spread(image_bytes.digest_or_blank, paths))
    conflicts = find_conflicts(zip(map(str, paths), digests, labels, strict=True))
    if not conflicts:
        return set()
    fact = _described(source, conflicts)
    if stops:
        raise DataError(f"{fact}. Keep one of each, or leave them all out with --conflicts drop.")
    logger.warning("%s. All of them are left out", fact)
    bad = {group[0][1] for group in conflicts}
    return {place for place, digest in enumerate(digests) if digest in bad}


def _described(source: object, conflicts: Sequence[Sequence[_Image]]) -> str:
    count = len(conflicts)
    shown = "; ".join(_in_words(group) for group in conflicts[:_SHOWN])
    more = "; ..." if count > _SHOWN else ""
    return f"{source}: {count_of(count, 'image')} under different labels: {shown}{more}"


def _in_words(group: Iterable[_Image]) -> str:
    return some([f"{path} ({', '.join(labels) or 'none'})" for path, _, labels in group])

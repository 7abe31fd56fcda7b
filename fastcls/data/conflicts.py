"""Identical images under different labels: at most one of the labels is right."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from fastcls.data import image_bytes
from fastcls.data.readers.entries import some
from fastcls.errors import DataError
from fastcls.parallel import spread

_SHOWN = 3
logger = logging.getLogger(__name__)


def find_conflicts(digests: Sequence[str], labels: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """Places of the images of each digest that comes with different labels; "" is no digest."""
    first: dict[str, tuple[str, ...]] = {}
    bad = {
        digest
        for digest, names in zip(digests, labels, strict=True)
        if digest and first.setdefault(digest, names) != names
    }
    found: dict[str, list[int]] = {digest: [] for digest in digests if digest in bad}
    for place, digest in enumerate(digests):
        if digest in bad:
            found[digest].append(place)
    return list(found.values())


def warn_of_conflicts(source: object, images: Iterable[tuple[str, str, tuple[str, ...]]]) -> None:
    """Name and count the images that have different labels.

    Args:
        source: What the data set is called.
        images: Path, digest ("" where unknown) and labels of each.
    """
    known = list(images)
    labels = [names for _, _, names in known]
    conflicts = find_conflicts([digest for _, digest, _ in known], labels)
    if conflicts:
        fact = _described(source, conflicts, [path for path, _, _ in known], labels)
        logger.warning("%s. They are kept; --conflicts drop leaves them out", fact)


def drop_conflicts(
    source: object, paths: Sequence[Path], labels: Sequence[tuple[str, ...]], *, stops: bool
) -> set[int]:
    """Places of the images that have several labels; all files are read.

    Args:
        source: What the data set is called.
        paths: Of the images.
        labels: Of the images.
        stops: Refuse such images.

    Raises:
        DataError: There are such images, and `stops`.
    """
    digests = list(spread(image_bytes.digest_or_blank, paths))
    conflicts = find_conflicts(digests, labels)
    if not conflicts:
        return set()
    fact = _described(source, conflicts, list(map(str, paths)), labels)
    if stops:
        raise DataError(f"{fact}. Keep one of each, or leave them all out with --conflicts drop.")
    logger.warning("%s. All of them are left out", fact)
    return {place for places in conflicts for place in places}


def _described(
    source: object,
    conflicts: Sequence[Sequence[int]],
    paths: Sequence[str],
    labels: Sequence[tuple[str, ...]],
) -> str:
    count = len(conflicts)
    shown = "; ".join(_in_words(places, paths, labels) for places in conflicts[:_SHOWN])
    more = "; ..." if count > _SHOWN else ""
    return f"{source}: {count} image{'s' * (count != 1)} under different labels: {shown}{more}"


def _in_words(places: Iterable[int], paths: Sequence[str], labels: Sequence[tuple[str, ...]]) -> str:
    return some([f"{paths[place]} ({', '.join(labels[place]) or 'none'})" for place in places])

"""Identical images under different labels: at most one of the labels is right."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastcls.data import image_bytes
from fastcls.data.readers.entries import some
from fastcls.errors import DataError
from fastcls.parallel import spread
from fastcls.wording import count_of

_SHOWN = 3
logger = logging.getLogger(__name__)


class Claim(NamedTuple):
    """What a data set says of an image: its path, as a message calls it, and its labels."""

    path: str
    labels: tuple[str, ...]


def find_conflicts(paths: Sequence[Path], claims: Sequence[Claim]) -> list[list[int]]:
    """Places of the images of each group that are identical and have different labels.

    Of nearly all files only the size is looked at: those of one size are read from the end first.

    Args:
        paths: The images.
        claims: What is said of each.
    """
    sizes = (size if size > 0 else "" for size in image_bytes.sizes(map(str, paths)))
    groups = _alike(range(len(paths)), sizes, claims)
    for identify in (image_bytes.end_digest_or_blank, image_bytes.digest_or_blank):
        places = sorted(place for group in groups for place in group)
        groups = _alike(places, spread(identify, [paths[place] for place in places]), claims)
    return sorted(groups, key=lambda group: claims[group[0]])


def _alike(places: Iterable[int], keys: Iterable[Hashable], claims: Sequence[Claim]) -> list[list[int]]:
    """Places of one key ("" for none), where not all labels are the same."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in zip(places, keys, strict=True):
        if key:
            found[key].append(place)
    return [group for group in found.values() if len({claims[place].labels for place in group}) > 1]


def warn_of_conflicts(source: object, paths: Sequence[Path], claims: Sequence[Claim]) -> None:
    """Name and count the identical images that have different labels.

    Args:
        source: What the data set is called.
        paths: The images.
        claims: What is said of each.
    """
    if groups := find_conflicts(paths, claims):
        fact = describe_conflicts(source, [[claims[place] for place in group] for group in groups])
        logger.warning("%s. They are kept; --conflicts drop leaves them out", fact)


def drop_conflicts(
    source: object, paths: Sequence[Path], claims: Sequence[Claim], *, stops: bool
) -> set[int]:
    """Places of the identical images that have different labels.

    Args:
        source: What the data set is called.
        paths: The images.
        claims: What is said of each.
        stops: Refuse such images.

    Raises:
        DataError: There are such images, and `stops`; or a class has no others.
    """
    groups = find_conflicts(paths, claims)
    if not groups:
        return set()
    fact = describe_conflicts(source, [[claims[place] for place in group] for group in groups])
    if stops:
        raise DataError(f"{fact}. Keep one of each, or leave them all out with --conflicts drop.")
    logger.warning("%s. All of them are left out", fact)
    dropped = {place for group in groups for place in group}
    left = (claim for place, claim in enumerate(claims) if place not in dropped)
    require_classes(source, claims, left)
    return dropped


def require_classes(source: object, claims: Iterable[Claim], left: Iterable[Claim]) -> None:
    """Raise DataError for classes that lost all their images.

    Args:
        source: What the data set is called.
        claims: What was said of all images.
        left: What is said of those that are not dropped.
    """
    lost = sorted(_names(claims) - _names(left))
    if lost:
        raise DataError(
            f"{source}: --conflicts drop leaves no image of class {some(lost)}: each is also under another "
            "label. Delete the wrong ones of these images and the others stay, or remove the class."
        )


def describe_conflicts(source: object, conflicts: Sequence[Sequence[Claim]]) -> str:
    """Count the images that have different labels, and name the first.

    >>> describe_conflicts("in", [[Claim("a.jpg", ("cat",)), Claim("b.jpg", ("dog",))]])
    "in: 1 image under different labels: 'a.jpg (cat)', 'b.jpg (dog)'"
    """
    count = len(conflicts)
    shown = "; ".join(map(_in_words, conflicts[:_SHOWN]))
    more = "; ..." if count > _SHOWN else ""
    return f"{source}: {count_of(count, 'image')} under different labels: {shown}{more}"


def _in_words(claims: Iterable[Claim]) -> str:
    return some([f"{path} ({', '.join(labels) or 'none'})" for path, labels in claims])


def _names(claims: Iterable[Claim]) -> set[str]:
    return {name for claim in claims for name in claim.labels}

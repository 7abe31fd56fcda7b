"""Identical images under different labels: at most one of the labels is right."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastcls.data import image_bytes
from fastcls.data.digests import DIGEST_DTYPE, repeated
from fastcls.data.readers.entries import some
from fastcls.errors import DataError
from fastcls.parallel import spread
from fastcls.wording import count_of

_SHOWN = 3
_BLOCK = 32


class Claim(NamedTuple):
    """What a data set says of an image: its path, as a message calls it, and its labels."""

    path: str
    labels: tuple[str, ...]


def find_conflicts(
    root: str | Path,
    paths: Sequence[str],
    labels: Sequence[Hashable],
    digests: Sequence[str] | np.ndarray | None = None,
) -> list[list[int]]:
    """Places of the images of each group that are identical and have different labels.

    Unless all digests are known, only the sizes of nearly all files are looked at: files of one size and of
    different labels are read, their ends first; those whose digests are known are not.

    Args:
        root: Folder that the paths are relative to.
        paths: Of the images.
        labels: Of the images.
        digests: Of the images, as far as they are known: "" for others.
    """
    known = np.zeros(len(paths), DIGEST_DTYPE) if digests is None else np.asarray(digests, DIGEST_DTYPE)
    is_known = known != b""
    if is_known.all():
        again = repeated(known)
        return _alike(again.tolist(), known[again].tolist(), labels)
    located = (image_bytes.located(root, path) for path in paths)
    sizes = (size if size > 0 else "" for size in image_bytes.sizes(located))
    groups = _alike(range(len(paths)), sizes, labels)
    ends = () if is_known.any() else (image_bytes.end_digest_or_blank,)  # of nothing known to compare with
    for identify in (*ends, image_bytes.digest_or_blank):
        places = sorted(place for group in groups for place in group)
        read = _spread(
            identify, (image_bytes.located(root, paths[place]) for place in places if not is_known[place])
        )
        found = (known[place] if is_known[place] else next(read) for place in places)
        keys = np.fromiter(found, DIGEST_DTYPE, len(places))
        again = repeated(keys)  # the others need not be kept
        groups = _alike([places[place] for place in again], keys[again].tolist(), labels)
    return groups


def _spread(identify: Callable[[str], str], paths: Iterator[str]) -> Iterator[str]:
    """`spread`, some files at a time: to order each alone takes longer than to read its end."""
    blocks = iter(lambda: list(itertools.islice(paths, _BLOCK)), [])
    return itertools.chain.from_iterable(spread(lambda block: [*map(identify, block)], blocks))


def _alike(places: Iterable[int], keys: Iterable[Hashable], labels: Sequence[Hashable]) -> list[list[int]]:
    """Places of one key ("" for none) where not all labels are the same, the first places first."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in zip(places, keys, strict=True):
        if key:
            found[key].append(place)
    return [group for group in found.values() if len({labels[place] for place in group}) > 1]


def require_classes(source: object, before: Iterable[str], after: Iterable[str]) -> None:
    """Raise DataError for classes that lost all their images.

    Args:
        source: What the data set is called.
        before: Names of the classes that images had.
        after: Names of those that images have when the others are dropped.
    """
    lost = sorted({*before} - {*after})
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

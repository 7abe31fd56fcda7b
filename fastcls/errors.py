"""Errors that a user can mend: each states the fact, the received value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FastclsError(Exception):
    """What stops a run and can be mended by the user; the command line prints it without a traceback."""


class DataError(FastclsError, ValueError):
    """The images, folders or CSV files are not what was expected."""


class OptionError(FastclsError, ValueError):
    """An option has a value that cannot be used: an unknown name, a bad size, a clash of two options."""


class ConversionError(OptionError):
    """An engine cannot run a trunk, because it does not know one of its operations."""


class CacheError(FastclsError, RuntimeError):
    """A bottleneck cache is missing, partial, stale, damaged or of another version."""


class WorkerError(FastclsError, RuntimeError):
    """The extraction had to stop: the workers cannot start, keep dying, or fail too often."""


class MissingExtraError(FastclsError, ImportError):
    """An optional package is needed and not installed."""


def closest(name: str, known: Iterable[str], *, count: int = 3) -> str:
    """The known names most like `name`, as text for an error message.

    >>> closest("resnet5", ["vgg16", "resnet50", "resnet101", "xception"], count=2)
    'resnet50, resnet101'
    """
    known = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.0)
    return ", ".join(lowered[match] for match in matches)

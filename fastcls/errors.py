"""Errors that a user can fix: each states the fact, the received value and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Characters of a received value that a message shows: longer ones are cut.
_SHOWN, _SHOWN_WHOLE = 61, 160
_names: dict[str, str] = {}  # how messages call places on this machine


def call(place: str, name: str) -> None:
    """Let messages call a place on this machine by the name that the user knows it by, such as a URL."""
    _names[place] = name


def spoken(text: object) -> str:
    """A text for the user, with the names that places are called by."""
    told = str(text)
    for place, name in _names.items():
        told = told.replace(place, name)
    return told


class FastclsError(Exception):
    """Base of all errors that the user can fix; the command line prints them without a traceback."""

    def __str__(self) -> str:
        return spoken(super().__str__())


class DataError(FastclsError, ValueError):
    """Images, folders or CSV files are not as expected."""


class GoneError(DataError):
    """Images, or the folder or table that lists them, are not where they are said to be."""


class OptionError(FastclsError, ValueError):
    """An option cannot be used: an unknown name, a value out of range, a conflict of two options."""


class ConversionError(OptionError):
    """An engine cannot run a trunk, because it does not know one of its operations."""


class InfidelityError(OptionError):
    """An engine's bottlenecks are further from those in float32 than its precision allows.

    Attributes:
        fact: The message without its remedy.
    """

    fact: str = ""

    @classmethod
    def of(cls, fact: str, remedy: str = "Use --precision float32") -> InfidelityError:
        """An error of a fact and its remedy."""
        error = cls(f"{fact}. {remedy}")
        error.fact = fact
        return error


class ExportError(FastclsError, RuntimeError):
    """An export does not do what its classifier does, or cannot be run."""


class CacheError(FastclsError, RuntimeError):
    """A bottleneck cache is missing, partial, stale, damaged or of another version."""


class WorkerError(FastclsError, RuntimeError):
    """The extraction had to stop: workers cannot start or keep crashing, or too many images failed."""


class StorageError(FastclsError, OSError):
    """An object store or a web server refuses something, or cannot be reached."""


class MissingExtraError(FastclsError, ImportError):
    """An optional package is needed and not installed."""


def shown(value: object) -> str:
    """What was received, on one line of an error message.

    >>> shown({"epochs": 3})
    "{'epochs': 3}"
    >>> shown("a" * 200)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    text = " ".join(repr(value).split())
    return f"{text[:_SHOWN]}..." if len(text) > _SHOWN_WHOLE else text


def closest(name: str, known: Iterable[str], *, count: int = 3) -> str:
    """The known names most like `name`, as text for an error message.

    >>> closest("resnet5", ["vgg16", "resnet50", "resnet101", "xception"], count=2)
    'resnet50, resnet101'
    """
    known = sorted(known)
    lowered = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.0)
    return ", ".join(lowered[match] for match in matches)

"""Checks that several specs share."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fastcls.errors import OptionError, shown


def check_choice(option: str, value: str | None, choices: Collection[str | None]) -> None:
    """Raise OptionError for a value that is none of the choices."""
    if not isinstance(value, (str, type(None))) or value not in choices:
        named = ", ".join(choice for choice in choices if choice)
        raise OptionError(f"Unknown {option}: {shown(value)}. Choose one of: {named}")


def check_at_least(option: str, value: int, least: int) -> None:
    """Raise OptionError for what is no whole number, or one below the least."""
    if not isinstance(value, numbers.Integral) or value < least:
        raise OptionError(f"{option} must be a whole number, {least} or more. Received: {shown(value)}")


def check_type(name: str, value: Any, kind: type) -> None:
    """Raise OptionError for an argument of another type."""
    if not isinstance(value, kind):
        raise OptionError(f"{name} must be of type {kind.__name__}. Received: {shown(value)}")


def as_list(given: Any, name: str, *single: type) -> list[Any]:
    """Several values, of which one alone may be given.

    Raises:
        OptionError: It is neither.

    >>> as_list("a.tfrecord", "files", str), as_list(("a", "b"), "files", str)
    (['a.tfrecord'], ['a', 'b'])
    """
    if isinstance(given, single):
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Mapping)):
        raise OptionError(f"{name} must be a sequence. Received: {shown(given)}")
    return list(given)


def no_effect(flags: Sequence[str], choice: str) -> str:
    """The message about options that a choice leaves without effect.

    >>> no_effect(["--patience"], "--head knn")
    '--patience has no effect with --head knn. Remove it.'
    >>> no_effect(["--epochs", "--l2"], "--head knn")
    '--epochs, --l2 have no effect with --head knn. Remove them.'
    """
    verb, them = ("has", "it") if len(flags) == 1 else ("have", "them")
    return f"{', '.join(flags)} {verb} no effect with {choice}. Remove {them}."

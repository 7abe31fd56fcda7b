"""Checks that several specs share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fastcls.errors import OptionError


def check_choice(option: str, value: str | None, choices: Collection[str | None]) -> None:
    """Raise OptionError for a value that is none of the choices."""
    if value not in choices:
        named = ", ".join(choice for choice in choices if choice)
        raise OptionError(f"Unknown {option}: {value!r}. Choose one of: {named}")


def check_at_least(option: str, value: int | None, least: int) -> None:
    """Raise OptionError for a number below the least; None passes."""
    if value is not None and value < least:
        raise OptionError(f"{option} must be {least} or more. Received: {value}")


def no_effect(flags: Sequence[str], choice: str) -> str:
    """The message about options that a choice leaves without effect.

    >>> no_effect(["--patience"], "--head knn")
    '--patience has no effect with --head knn. Remove it.'
    >>> no_effect(["--epochs", "--l2"], "--head knn")
    '--epochs, --l2 have no effect with --head knn. Remove them.'
    """
    verb, them = ("has", "it") if len(flags) == 1 else ("have", "them")
    return f"{', '.join(flags)} {verb} no effect with {choice}. Remove {them}."

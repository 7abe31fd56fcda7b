"""Checks that several specs share."""

from __future__ import annotations

from fastcls.errors import OptionError


def check_choice(option: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """Raise OptionError for a value that is none of the choices."""
    if value not in choices:
        named = ", ".join(choice for choice in choices if choice)
        raise OptionError(f"Unknown {option}: {value!r}. Choose one of: {named}")


def check_at_least(option: str, value: int | None, least: int) -> None:
    """Raise OptionError for a number below the least; None passes."""
    if value is not None and value < least:
        raise OptionError(f"{option} must be {least} or more. Received: {value}")

"""What all option groups need."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from fastcls.specs import no_effect

Command = Callable[..., Any]


def refuse_typed(choice: str, names: set[str]) -> None:
    """Refuse options that the user gave although a choice leaves them without effect."""
    given = [
        parameter.opts[0]
        for parameter in click.get_current_context().command.params
        if parameter.name in names and is_typed(parameter.name)
    ]
    if given:
        raise click.UsageError(no_effect(given, choice))


def is_typed(name: str) -> bool:
    """Whether a parameter of the running command was given by the user, be it at its default."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def drop_loaded(values: dict[str, Any], choice: str, names: set[str]) -> None:
    """Set loaded options to their defaults if a choice was typed that leaves them without effect.

    They belong to the loaded choice: nobody could type `--optimizer adam` over the momentum of another.

    Args:
        values: The values of the running command, which are changed.
        choice: What may have been typed.
        names: What it leaves without effect.
    """
    context = click.get_current_context()
    if not is_typed(choice):
        return
    loaded = {name for name in names if context.get_parameter_source(name) is ParameterSource.DEFAULT_MAP}
    if loaded:
        untouched = context.command.make_context(context.info_name, [], resilient_parsing=True).params
        for name in loaded:
            # In the context too, from where the request is saved.
            values[name] = context.params[name] = untouched[name]


def show_progress() -> bool:
    """Whether someone is watching stderr."""
    return sys.stderr.isatty()


def apply(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Add options to a command, in the order in which `--help` shows them."""
    for option in reversed(options):
        command = option(command)
    return command

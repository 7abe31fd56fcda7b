"""What `--config` reads: the options of an earlier run, or of a JSON file written by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import click

from fastcls import files, runs
from fastcls.errors import OptionError, closest
from fastcls.specs.options import Option

Place = tuple[str, ...]


def read_config(
    path: Path, command: str, options: Mapping[Place, Option], known: Set[Place]
) -> dict[str, Any]:
    """The options of a file by their names.

    A file written by hand names options as the command line does, or nests them in objects as run.json does.

    Args:
        path: A run, its run.json, or another JSON file.
        command: The command that asks.
        options: Its options, by their places.
        known: These places, and those of fields that are no options of the command.

    Raises:
        OptionError: The file cannot be read, is of another command, or names an unknown option.
        click.UsageError: A value is of a wrong type.
    """
    path = path / runs.RECORD if path.is_dir() else path
    loaded: dict[str, Any] = {}
    for place, value in _leaves(_read(path, command, {place[0] for place in known})):
        own = _find(place, options)
        if own is None and place not in known and not (value is None and _is_inner(place, known)):
            names = {each.name for each in options.values()}
            raise OptionError(
                f"{path} has an option that `fastcls {command}` does not know: {'.'.join(place)}. "
                f"The closest are {closest(place[-1], names)}"
            )
        if own is not None and value is not None:
            loaded[own.name] = _as_typed(own, value, path)
    return loaded


def _read(path: Path, command: str, members: set[str]) -> Mapping[str, Any]:
    """What a file says of options."""
    try:
        record = files.read_json(path)
    except OSError as error:
        raise OptionError(f"Cannot read {path}: {error.strerror}. Use a run or a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} is damaged, or not a JSON file: {error}") from error
    if not isinstance(record, dict):
        raise OptionError(f'{path} contains no options. Use a JSON object such as {{"head": "logreg"}}')
    if not {"asked", "checksum"} & record.keys():
        return record
    asked = runs.read_record(path).get("asked")  # which checks that it is whole
    if not isinstance(asked, dict) or asked.get("command") != command:
        of = f"`fastcls {asked.get('command')}`" if isinstance(asked, dict) else "an unknown command"
        raise OptionError(f"{path} is a run of {of}. Use a run of `fastcls {command}`")
    return {name: value for name, value in asked.items() if name in members}


def _leaves(values: Mapping[str, Any], *place: str) -> Iterator[tuple[Place, Any]]:
    for name, value in values.items():
        inner = (*place, name)
        if isinstance(value, Mapping):
            yield from _leaves(value, *inner)
        else:
            yield inner, value


def _find(place: Place, options: Mapping[Place, Option]) -> Option | None:
    """The option of that name, or the one whose place ends so."""
    name = place[-1].replace("-", "_")
    named = [own for own in options.values() if len(place) == 1 and own.name == name]
    ending = [own for known, own in options.items() if known[-len(place) :] == place]
    found = named or ending
    return found[0] if found else None


def _is_inner(place: Place, known: Set[Place]) -> bool:
    """Whether a place is one of a spec, which may be missing."""
    return any(each[: len(place)] == place for each in known)


def _as_typed(own: Option, value: Any, path: Path) -> Any:
    try:
        return own.convert(value)
    except OptionError as error:
        raise click.UsageError(f"{path}: {own.flag}: {error}") from error

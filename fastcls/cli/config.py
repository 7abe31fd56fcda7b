"""What `--config` reads: the options of an earlier run, or of a JSON file written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from fastcls import run_record, runs
from fastcls.errors import OptionError, closest, shown
from fastcls.specs.option import Option

Place = tuple[str, ...]


def read_config(
    path: Path, command: str, options: Mapping[Place, Option], known: Mapping[Place, Option]
) -> tuple[dict[str, Any], set[str]]:
    """The options of a file by their names, and the names of those that count as typed at their defaults.

    A file written by hand names options as the command line does, or puts them in objects as run.json does.

    Args:
        path: A run, its run.json, or another JSON file.
        command: The command that asks.
        options: Its options, by their places.
        known: These, and fields that are no options of the command.

    Raises:
        OptionError: The file cannot be read, is of another command, names an option that is none or that
            may be one of several, or gives an option two values.
        click.UsageError: A value is of a wrong type.
    """
    path = path / runs.RECORD if path.is_dir() else path
    loaded: dict[str, Any] = {}
    read, typed_of_record = _read(path, command, {place[0] for place in known})
    is_record = typed_of_record is not None
    for place, value in _leaves(read):
        own = _find(place, options, path)
        if own is None and not _is_ignored(place, value, known, is_record=is_record):
            names = {each.name for each in options.values()}
            raise OptionError(
                f"{path} has an option that `fastcls {command}` does not know: {'.'.join(place)}. "
                f"The closest are {closest(place[-1], names)}"
            )
        if own is None or value is None:
            continue
        typed = _as_typed(own, value, path)
        if own.name in loaded and loaded[own.name] != typed:
            raise OptionError(f"{path} gives {own.flag} twice: {loaded[own.name]} and {typed}. Keep one")
        loaded[own.name] = typed
    return loaded, {*loaded} if typed_of_record is None else typed_of_record


def _read(path: Path, command: str, members: set[str]) -> tuple[Mapping[str, Any], set[str] | None]:
    """What a file says of options; and what was typed at its default, if it is the record of a run."""
    try:
        # Editors on Windows begin a file by a byte order mark.
        record = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except OSError as error:
        raise OptionError(f"Cannot read {path}: {error.strerror}. Use a run or a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise OptionError(f"{path} is damaged, or not a JSON file: {error}") from error
    if not isinstance(record, dict):
        raise OptionError(f'{path} contains no options. Use a JSON object such as {{"head": "logreg"}}')
    if not {"asked", "checksum"} & record.keys():
        return record, None
    is_object = isinstance(record.get("asked", {}), dict)
    # `read_record` checks that it is whole.
    asked = runs.read_record(path, run_record.read_asked) if is_object else None
    if asked is None or asked.get("command") != command:
        of = f"`fastcls {asked.get('command')}`" if asked else "an unknown command"
        raise OptionError(f"{path} is a run of {of}. Use a run of `fastcls {command}`")
    return {name: value for name, value in asked.items() if name in members}, {*asked.get("typed", ())}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python would keep the last of two members of one name, and say nothing."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made and made[name] != value:
            found = f"{shown(made[name])} and {shown(value)}"
            raise ValueError(f"it gives {shown(name)} twice: {found}. Keep one")
        made[name] = value
    return made


def _leaves(values: Mapping[str, Any], *place: str) -> Iterator[tuple[Place, Any]]:
    for name, value in values.items():
        inner = (*place, name)
        if isinstance(value, Mapping):
            yield from _leaves(value, *inner)
        else:
            yield inner, value


def _find(place: Place, options: Mapping[Place, Option], path: Path) -> Option | None:
    """The option of that name, or the one whose place ends so."""
    name = place[-1].replace("-", "_")
    named = [own for own in options.values() if len(place) == 1 and own.name == name]
    ending = {own.name: own for known, own in options.items() if known[-len(place) :] == place}
    if len(ending) > 1 and not named:
        flags = ", ".join(own.flag.removeprefix("--") for own in ending.values())
        raise OptionError(f"{path} names {'.'.join(place)}, which may be any of {flags}. Name one of these")
    return next(iter((*named, *ending.values())), None)


def _is_ignored(place: Place, value: Any, known: Mapping[Place, Option], *, is_record: bool) -> bool:
    """Whether a member that is no option changes nothing: a spec that is missing, or a field at its default.

    A run records such fields too, by their values in it.
    """
    if place in known:
        return is_record or value == known[place].default
    return value is None and _is_inner(place, known)


def _is_inner(place: Place, known: Iterable[Place]) -> bool:
    """Whether a place is one of a spec, which may be missing."""
    return any(each[: len(place)] == place for each in known)


def _as_typed(own: Option, value: Any, path: Path) -> Any:
    try:
        return own.convert(value)
    except OptionError as error:
        raise click.UsageError(f"{path}: {own.flag}: {error}") from error

"""What a command makes of a command line, and a run.json of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from fastcls import files
from fastcls.cli.main import cli


def parse(name: str, arguments: Iterable[str], command: Any = None) -> dict[str, Any]:
    """The arguments with which a command would be called."""
    command = command or cli.commands[name]
    context = command.make_context(name, list(arguments))
    with context, mock.patch.object(command, "callback", lambda **made: made):
        made: dict[str, Any] = command.invoke(context)
        return made


def save(folder: Path, name: str, made: Mapping[str, Any]) -> Path:
    """Write the specs of a call as the run.json of a run has them."""
    single = {member: spec[0] if isinstance(spec, list) else spec for member, spec in made.items()}
    specs = {member: asdict(spec) for member, spec in single.items() if is_dataclass(spec)}
    path = folder / "run.json"
    files.write_checked_json(path, {"class_names": [], "asked": {"command": name, **specs}})
    return path


def require_each_fact_once(record):
    """What was decided is stored only where it is not what was asked for."""
    told = {place for place, _ in _leaves(record) if place[0] not in ("asked", "decided_by")}
    asked, decided = (dict(_leaves(record[name])) for name in ("asked", "decided_by"))
    assert not [place for place in decided.keys() & asked.keys() if decided[place] == asked[place]]
    assert not told & (asked.keys() | decided.keys())
    assert asked and decided and told


def _leaves(values, *place):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, *place, name)
        else:
            yield (*place, name), value

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

"""`fastcls doctor`: what a bug report needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fastcls.sizes import format_bytes

if TYPE_CHECKING:
    from fastcls.doctor import Checkup, Extra
    from fastcls.engines.trials import Trial


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Show versions, hardware, and what works on this machine.

    The output is made for bug reports. Each engine runs a tiny model in each precision, in a process of its
    own, which takes a few seconds. Nothing is written, and nothing is sent anywhere. The home folder is shown
    as ~.
    """
    from fastcls.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        click.echo("\n\n".join("\n".join(part) for part in _parts(found)))


def _parts(found: Checkup) -> Iterator[list[str]]:
    packages = ", ".join(f"{name} {version or '(missing)'}" for name, version in found.packages.items())
    yield [f"fastcls {found.fastcls}, Python {found.python}, {found.system}", packages]
    yield list(_machine(found))
    yield ["engines", *map(_trial, found.engines)]
    yield ["extras", *map(_extra, found.extras)]
    yield ["folders", *(f"  {place.path}: {_size(place.bytes)}, {place.holds}" for place in found.places)]


def _machine(found: Checkup) -> Iterator[str]:
    yield f"CPU      {found.cpu}; {', '.join(found.cpu_features) or 'features unknown'}"
    yield f"cores    {found.cores}"
    yield f"memory   {format_bytes(found.memory)} available"
    yield f"GPU      {'; '.join(found.gpus) or 'none that TensorFlow sees'}"
    for name, value in found.settings.items():
        yield f"{name}={value}"


def _trial(trial: Trial) -> str:
    return f"  {trial.engine:12} {trial.precision:9} {trial.obstacle or 'works'}"


def _extra(extra: Extra) -> str:
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in extra.versions.items())
    return f"  {extra.name:12} {versions}; for {extra.purpose}"


def _size(count: int | None) -> str:
    return "no such folder" if count is None else format_bytes(count)

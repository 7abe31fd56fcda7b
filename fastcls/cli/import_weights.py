"""`fastcls import-weights`: a state dict of torchvision, timm or facenet as a Keras file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fastcls.cli.options import complete_bases
from fastcls.wording import count_of


@click.command()
@click.argument("base", shell_complete=complete_bases)
@click.argument("file", type=click.Path())
@click.option(
    "--out", type=click.Path(), help="File to create, .weights.h5 or .keras. [default: BASE.weights.h5]"
)
def import_weights(base: str, file: str, out: str | None) -> None:
    """Convert PyTorch weights for a base.

    FILE is a PyTorch state dict for BASE: a .pth of torchvision, timm or facenet (which needs
    pip install torch) or a .safetensors (pip install safetensors). Every tensor must have its place
    and every weight its tensor. Code inside FILE is never run. `fastcls bases` lists which weights fit which
    base.
    """
    from fastcls.bases.torch_weights import find_importable, import_weights

    name = find_importable(base).name.lower()
    path = Path(out or f"{name}.weights.h5")
    imported = import_weights(base, Path(file), path)
    top = f"classifier of {count_of(imported.classes, 'class')}" if imported.classes else "no classifier"
    click.echo(f"{name}: all {imported.tensors} tensors placed, named as {imported.source}; {top}")
    click.echo(f"Written to {path}")
    click.echo(f"Next: fastcls extract DATA --base {name} --weights {shlex.quote(str(path))}")

"""`fastcls to-csv`: any data set as one table."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fastcls.cli import options
from fastcls.specs import SplitSpec


@click.command("to-csv")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file to make.")
@options.data_options
@click.option("--val", type=float, help="Divide: fraction of each class for validation. [default: do not]")
@click.option("--test", type=float, help="Divide: fraction of each class for the test. [default: do not]")
@click.option("--seed", default=SplitSpec.seed, show_default=True, help="Another seed, another division.")
@click.option("--allow-small", is_flag=True, help="Accept classes too small to give every split an image.")
def to_csv(data: Path, out: Path, seed: int, allow_small: bool, **values: Any) -> None:
    """List the images of DATA in a CSV of path, label, split and group, which all commands take as DATA.

    DATA is a folder per class, a split folder, a CSV, or TFRecord files. With --val or --test, images that
    are not split yet are divided as split-data does it, and stay where they are.
    """
    from fastcls.data.splitter import split
    from fastcls.data.writers.csv import write_csv

    parts = {name: part for name in ("val", "test") if (part := values.pop(name)) is not None}
    dataset = options.open_data(data, values)
    if parts:
        spec = SplitSpec(**{"val": 0.0, "test": 0.0, "seed": seed, **parts})
        dataset = split(dataset, spec, allow_small=allow_small)
    else:
        options.refuse_typed("data that is not divided (--val, --test)", {"seed", "allow_small"})
    write_csv(dataset, out)
    described = ", ".join(f"{len(dataset.subset(part).samples)} {part}" for part in dataset.splits)
    click.echo(
        f"{out}: {len(dataset.samples)} images of {len(dataset.class_names)} classes"
        + (f" ({described})" if described else "")
    )
    click.echo(f"Next: fastcls extract {shlex.quote(str(out))}")

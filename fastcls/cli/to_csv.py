"""`fastcls to-csv`: any data set as one table."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fastcls.cli import options
from fastcls.cli.options import SourceSpec, SpecCommand
from fastcls.specs import SplitSpec


@click.command("to-csv", cls=SpecCommand, specs={"source": SourceSpec})
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="CSV file to create.")
@click.option("--val", type=float, help="Split: fraction of each class for validation. [default: no split]")
@click.option("--test", type=float, help="Split: fraction of each class for testing. [default: no split]")
@click.option("--seed", default=SplitSpec.seed, show_default=True, help="Random seed of the split.")
@click.option("--allow-small", is_flag=True, help="Accept classes too small to give every split an image.")
def to_csv(
    data: Path,
    out: Path,
    val: float | None,
    test: float | None,
    seed: int,
    allow_small: bool,
    source: SourceSpec,
) -> None:
    """Write a data set as a CSV table.

    The columns are path, label, split and group; all commands take such a CSV as DATA. DATA is a folder per
    class, a split folder, a CSV, JSON Lines, Parquet or TFRecord files. With --val or --test, images that are
    not split yet are split as split-data does it, and stay where they are.
    """
    from fastcls.data.splitter import split
    from fastcls.data.writers.csv import write_csv

    dataset = source.open(data)
    if val is None and test is None:
        options.refuse_typed("data that is not split (--val, --test)", "seed", "allow_small")
    else:
        spec = SplitSpec(val=val or 0.0, test=test or 0.0, seed=seed)
        dataset = split(dataset, spec, allow_small=allow_small)
    write_csv(dataset, out)
    described = ", ".join(f"{len(dataset.subset(part).samples)} {part}" for part in dataset.splits)
    click.echo(f"{out}: {dataset.counted}" + (f" ({described})" if described else ""))
    click.echo(f"Next: fastcls extract {shlex.quote(str(out))} --base BASE")

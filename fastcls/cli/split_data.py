"""fastcls split-data: a folder per class, or a CSV, into train, val and test folders."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastcls.cli import options
from fastcls.specs import SplitSpec

if TYPE_CHECKING:
    from fastcls.data.dataset import Dataset
    from fastcls.data.split_writer import SplitResult


@click.command("split-data")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make or to extend.")
@options.data_options
@options.split_options
@click.option("--seed", default=SplitSpec.seed, show_default=True, help="Another seed, another division.")
@click.option(
    "--mode",
    type=click.Choice(["link", "copy", "symlink"]),
    default="link",
    show_default=True,
    help="How the images get there; link makes hard links, and copies where that fails.",
)
@click.option("--allow-small", is_flag=True, help="Accept classes too small to give every split an image.")
def split_data(
    source: Path,
    out: Path,
    val: float,
    test: float,
    seed: int,
    mode: str,
    allow_small: bool,
    **values: Any,
) -> None:
    """Divide the images of SOURCE into train, val and test folders.

    SOURCE is a folder that holds a folder per class, or a CSV with the columns path, label and, where
    wanted, group. It is only read. Identical images and those of one group go to one side. Run it again
    to add new images: earlier ones stay where they are.

    If images have several labels each (--label-separator, or a column of 0 and 1 per class), they stay
    where they are, and OUT gets a table alone, split.csv, which the other commands take as they take OUT.

    OUT/split.csv says what is in OUT: images that are added to OUT by hand are refused, and those that are
    deleted there are left out until split-data brings them back.
    """
    from fastcls.data.split_table import write_split_table
    from fastcls.data.split_writer import write_split

    spec = SplitSpec(val=val, test=test, seed=seed)
    dataset = options.open_data(source, values)
    if dataset.task.has_class_folder:
        result = write_split(dataset, out, spec, mode=mode, allow_small=allow_small)
    else:
        options.refuse_typed(f"{dataset.task} per image", {"mode"})
        result = write_split_table(dataset, out, spec, allow_small=allow_small)
    _print(result)


def _print(result: SplitResult) -> None:
    dataset = result.dataset
    _print_counts(dataset)
    click.echo()
    before = len(dataset.samples) - result.added
    kept = " (they keep their parts: --val, --test and --seed are for new images)" if before else ""
    click.echo(f"Images added: {result.added}, there before: {before}{kept}")
    if result.vanished:
        kept = ", but kept" if dataset.task.has_class_folder else ""
        click.echo(f"No longer in the source{kept}: {result.vanished}")
    if result.tied:
        click.echo(f"On one side as they are identical or of one group: {result.tied}")
    if dataset.left_out:
        click.echo(f"Files left out (hidden, no image, or in no class folder): {dataset.left_out}")
    click.echo(f"Next: fastcls extract {shlex.quote(str(dataset.root))}")


def _print_counts(dataset: Dataset) -> None:
    splits, counts = dataset.splits, dataset.counts()
    rows = [(_shown(name), [by_split[split] for split in splits]) for name, by_split in counts.items()]
    if dataset.task.may_have_none:
        rows.append(("no label", [_count(dataset, split, unlabeled=True) for split in splits]))
    rows.append(("total", [_count(dataset, split) for split in splits]))
    width = max(len(name) for name, _ in rows)
    click.echo("  ".join(["class".ljust(width), *(f"{title:>7}" for title in (*splits, "total"))]))
    for name, row in rows:
        click.echo("  ".join([name.ljust(width), *(f"{number:7}" for number in (*row, sum(row)))]))


def _count(dataset: Dataset, split: str, *, unlabeled: bool = False) -> int:
    return sum(not (unlabeled and sample.labels) for sample in dataset.subset(split).samples)


def _shown(name: str) -> str:
    """A class name that stays on its line."""
    return name if name.isprintable() else repr(name)

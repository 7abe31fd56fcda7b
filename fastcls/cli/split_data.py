"""fastcls split-data: a folder per class, or a CSV, into train, val and test folders."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastcls.cli import options
from fastcls.cli.options import SourceSpec, SpecCommand
from fastcls.specs import SplitSpec
from fastcls.wording import count_of, on_one_line

if TYPE_CHECKING:
    from fastcls.data.dataset import Dataset
    from fastcls.data.writers.split import SplitResult

_NAME_COLUMNS = 40


@click.command("split-data", cls=SpecCommand, specs={"reading": SourceSpec, "splits": SplitSpec})
@click.argument("source", type=click.Path())
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to create or extend.")
@click.option(
    "--mode",
    type=click.Choice(["link", "copy", "symlink"]),
    default="link",
    show_default=True,
    help="How images get into --out; link makes hard links, and copies where that fails.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be written, and stop.")
@click.option("--allow-small", is_flag=True, help="Accept classes too small to give every split an image.")
def split_data(
    source: str,
    out: Path,
    mode: str,
    dry_run: bool,
    allow_small: bool,
    reading: SourceSpec,
    splits: SplitSpec,
) -> None:
    """Split images into train, val and test folders.

    SOURCE is a folder with one folder per class, or a table of paths, labels and, optionally, groups. It is
    only read. Identical images and images of the same group stay in one split. Run the command again to add
    new images: earlier ones stay where they are.

    If images have several labels (--label-separator, or a column of 0 and 1 per class), they stay where they
    are: OUT gets only a table, split.csv, and the other commands take OUT as usual.

    OUT/split.csv lists what is in OUT: images added to OUT by hand are refused, and images deleted there are
    left out until split-data brings them back.
    """
    from fastcls.data.writers.split import plan_split, write_split

    dataset = reading.open(source)
    if not dataset.task.has_class_folder:
        options.refuse_typed(f"{dataset.task} per image", "mode")
    if dry_run:
        planned = plan_split(dataset, out, splits, allow_small=allow_small)
        _print(planned, added="Images to add")
        placed = planned.added if dataset.task.has_class_folder else 0
        images = f"{count_of(placed, 'image')} (--mode {mode}), " if placed else ""
        click.echo(f"Would write to {out}: {images}split.csv. Nothing was written")
        return
    _print(write_split(dataset, out, splits, mode=mode, allow_small=allow_small))
    click.echo(f"Next: fastcls extract {shlex.quote(str(out))} --base BASE")


def _print(result: SplitResult, added: str = "Images added") -> None:
    dataset = result.dataset
    _print_counts(dataset)
    click.echo()
    before = len(dataset.samples) - result.added
    kept = " (they keep their split: --val, --test and --seed only apply to new images)" if before else ""
    click.echo(f"{added}: {result.added:,}, already there: {before:,}{kept}")
    if result.vanished:
        kept = ", but kept" if dataset.task.has_class_folder else ""
        click.echo(f"No longer in the source{kept}: {result.vanished:,}")
    if result.tied:
        click.echo(
            f"{count_of(result.tied, 'image')} are kept in one split with others, because they are identical "
            "or of one group"
        )
    if dataset.left_out:
        click.echo(f"Files left out (hidden, not an image, or not in a class folder): {dataset.left_out:,}")


def _print_counts(dataset: Dataset) -> None:
    from fastcls.evaluation.text_table import first_classes, shorten

    splits, counts = dataset.splits, dataset.counts()
    named = [
        _row(shorten(on_one_line(name), _NAME_COLUMNS), [by_split[split] for split in splits])
        for name, by_split in counts.items()
    ]
    rows = [["class", *splits, "total"], *first_classes(named)]
    if dataset.task.may_have_none:
        rows.append(_row("no label", [_count(dataset, split, unlabeled=True) for split in splits]))
    rows.append(_row("total", [_count(dataset, split) for split in splits]))
    width = max(len(row[0]) for row in rows)
    for name, *cells in rows:
        click.echo("  ".join([name.ljust(width), *(f"{cell:>7}" for cell in cells)]).rstrip())


def _row(name: str, counts: list[int]) -> list[str]:
    return [name, *(f"{number:,}" for number in (*counts, sum(counts)))]


def _count(dataset: Dataset, split: str, *, unlabeled: bool = False) -> int:
    return sum(not (unlabeled and sample.labels) for sample in dataset.subset(split).samples)

"""`fastcls extract`: images to bottleneck shards."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastcls.cli import options
from fastcls.cli.options import PlaceSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_extraction, print_next_training
from fastcls.specs import CutSpec, ExtractConfig, ViewSpec
from fastcls.specs.options import options_of
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.data.dataset import Dataset


@click.command(
    cls=SpecCommand,
    specs={
        "source": SourceSpec,
        "cut": CutSpec,
        "views": ViewSpec,
        "extraction": ExtractConfig,
        "place": PlaceSpec,
    },
    changed={
        "cut.layer": {
            "help": "Layer to cut at; `fastcls layers BASE` lists them. Several are cut in one forward "
            "pass, each with its own cache."
        }
    },
    several=("cut",),
)
@click.argument("data", type=click.Path())
@click.option(
    "--unlabeled", is_flag=True, help="DATA is a folder of images without classes, to be labeled later."
)
@click.option("--dry-run", is_flag=True, help="Show what would be forwarded, and stop.")
@click.option(
    "--preview",
    type=click.Path(dir_okay=False),
    metavar="FILE.png",
    help="Draw some images, a row each, with their views as the trunk sees them, and stop.",
)
def extract(
    data: str,
    preview: str | None,
    dry_run: bool,
    unlabeled: bool,
    source: SourceSpec,
    cut: list[CutSpec],
    views: ViewSpec,
    extraction: ExtractConfig,
    place: PlaceSpec,
) -> None:
    """Forward images through a base and cache the bottlenecks.

    DATA is a folder made by split-data, a folder per class, TFRecord or Parquet files (one, a folder of them,
    or a pattern), or a table of paths and labels, such as a CSV. With --label-separator, or a column of 0 and
    1 per class, images can have any number of labels. Images that were forwarded before are not forwarded
    again, even if their name, label or split has changed. With --unlabeled, DATA is any folder of images:
    `fastcls suggest` says which of them to label next.
    """
    from fastcls.extraction.extractor import extract_several
    from fastcls.extraction.planner import plan_extraction

    dataset, root = _open_unlabeled(data) if unlabeled else source.open(data), place.root()
    if preview:
        _draw(preview, dataset, cut[0], root, views, extraction.max_pixels)
        return
    asked: dict[str, Any] = {"views": views, "name": place.name}
    if dry_run:
        click.echo(f"{plan_extraction(dataset, cut, root, extraction, **asked)}\nNothing was written")
        return
    progress = options.show_progress()
    for cache, done in extract_several(dataset, cut, root, extraction, **asked, progress=progress):
        print_extraction(cache, done)
        if unlabeled:
            click.echo(f"Next: fastcls suggest {shlex.quote(data)} --from RUN")
            continue
        print_next_training(cache, cache.listing.name, dataset.splits)


def _open_unlabeled(data: str) -> Dataset:
    from fastcls.data.unlabeled import open_unlabeled

    options.refuse_typed("--unlabeled", *(own.name for own in options_of(SourceSpec).values()))
    return open_unlabeled(data)


def _draw(preview: str, dataset: Any, cut: Any, root: Path, views: Any, max_pixels: int | None) -> None:
    from fastcls.extraction.contact_sheet import draw_contact_sheet

    unused = (
        *("engine", "executor", "address", "workers", "batch_size"),
        *("shard_size", "compress", "max_failures", "name"),
    )
    options.refuse_typed("--preview", "dry_run", *unused)  # it writes a picture
    count = draw_contact_sheet(dataset, cut, root, views, Path(preview), max_pixels=max_pixels)
    shown = f"{count_of(count, 'image')}, each with {count_of(views.views, 'view')}"
    click.echo(f"{shown}: {preview}. Nothing was extracted")

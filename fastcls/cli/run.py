"""`fastcls run`: from a folder of images to a tested classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastcls.cli import options
from fastcls.cli.options import PlaceSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_extraction, print_test, print_training
from fastcls.specs import CutSpec, ExtractConfig, HeadSpec, SplitSpec, TrainConfig, ViewSpec


@click.command(
    cls=SpecCommand,
    specs={
        "source": SourceSpec,
        "splits": SplitSpec,
        "cut": CutSpec,
        "views": ViewSpec,
        "extraction": ExtractConfig,
        "place": PlaceSpec,
        "head": HeadSpec,
        "training": TrainConfig,
    },
    changed={
        "splits.seed": {"help": "Random seed of the split, initial weights, order of images and dropout."},
        "training.batch_size": {"flag": "--train-batch-size"},
    },
    left_out=("training.val", "training.views", "training.allow_partial", "training.allow_stale"),
    several="cut",
)
@click.argument("photos", type=click.Path())
@options.request_options
def run(
    photos: str,
    out: str,
    restart: bool,
    dry_run: bool,
    source: SourceSpec,
    splits: SplitSpec,
    cut: list[CutSpec],
    views: ViewSpec,
    extraction: ExtractConfig,
    place: PlaceSpec,
    head: HeadSpec,
    training: TrainConfig,
) -> None:
    """Split, extract, train and test in one command.

    PHOTOS is a folder per class, a CSV, TFRecord files, or a folder that is split already. The images stay
    where they are; the split is kept in the cache. A second run with the same base and cut forwards nothing
    again.
    Whatever was interrupted goes on when the same command is given again.
    """
    from fastcls import pipeline
    from fastcls.preview import preview_run

    if len(cut) > 1:
        raise click.UsageError(
            "A head is trained on one cut: give one --cut. `fastcls extract` takes several."
        )
    dataset = source.open(photos)
    asked = (dataset, cut[0], head, training, Path(out))
    shared: dict[str, Any] = {
        "cache_root": Path(place.cache),
        "splits": splits if options.is_typed("val", "test") or not dataset.splits else None,
        "views": views,
        "name": place.name,
    }
    if dry_run:
        click.echo(preview_run(*asked, **shared))
        return
    result = pipeline.run(
        *asked,
        **shared,
        extraction=extraction,
        request=options.saved(source=source, extraction=extraction, place=place),
        restart=restart,
        progress=options.show_progress(),
    )
    print_extraction(result.cache, result.extraction)
    print_training(result.trained, out)
    print_test(result.test)

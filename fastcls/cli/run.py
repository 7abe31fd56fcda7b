"""`fastcls run`: from a folder of images to a tested classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastcls.cli import options
from fastcls.specs import SplitSpec


@click.command()
@click.argument("photos", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Run folder to make.")
@options.data_options
@options.split_options
@options.base_options
@options.cut_options
@options.view_options
@options.extract_options
@options.name_option
@options.train_options
@options.train_batch_size("--train-batch-size")
@options.request_options
def run(
    photos: str,
    out: str,
    val: float,
    test: float,
    cache_root: str,
    name: str | None,
    restart: bool,
    dry_run: bool,
    **values: Any,
) -> None:
    """Split, extract, train and test in one command.

    PHOTOS is a folder per class, a CSV, TFRecord files, or a folder that is split already. The images stay
    where they are; the split is kept in the cache. A second run with the same base and cut forwards nothing
    again.
    Whatever was interrupted goes on when the same command is given again.
    """
    from fastcls import pipeline
    from fastcls.cli.extract import print_extraction
    from fastcls.cli.test import print_test
    from fastcls.cli.train_head import print_training
    from fastcls.preview import preview_run

    cut, views = options.read_cut(values), options.read_views(values)
    extraction = options.read_extract(values)
    head, config = options.read_head(values), options.read_training(values)
    dataset = options.open_data(photos, values)
    is_asked = options.is_typed("val") or options.is_typed("test")
    splits = SplitSpec(val=val, test=test, seed=config.seed) if is_asked or not dataset.splits else None
    asked = (dataset, cut, head, config, Path(out))
    if dry_run:
        click.echo(preview_run(*asked, cache_root=Path(cache_root), splits=splits, views=views, name=name))
        return
    result = pipeline.run(
        *asked,
        cache_root=Path(cache_root),
        splits=splits,
        views=views,
        name=name,
        extraction=extraction,
        request=options.read_request(),
        restart=restart,
        progress=options.show_progress(),
    )
    print_extraction(result.cache, result.extraction)
    print_training(result.trained, out)
    print_test(result.test)

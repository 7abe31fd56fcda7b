"""`fastcls run`: from a folder of images to a tested classifier."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fastcls.cli import options


@click.command()
@click.argument("photos", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Run folder to make.")
@options.data_options
@click.option(
    "--val",
    type=float,
    help="Share of each class to validate on; 0 trains without validation. [default: the validation part of "
    "PHOTOS, or 0.2]",
)
@click.option(
    "--test",
    type=float,
    help="Share of each class to test on; 0 leaves out the test. [default: the test part of PHOTOS, or "
    "0.2 if they are not split]",
)
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
    test: float | None,
    cache_root: str,
    name: str | None,
    restart: bool,
    dry_run: bool,
    **values: Any,
) -> None:
    """Split, extract, train and test in one command.

    PHOTOS is a folder per class, a CSV, TFRecord files, or a folder that is split already. The images stay
    where they are; the split is kept in the cache. A second run with the same base and cut forwards nothing
    again. Data that is split without a validation part gets one from its train part; without a test part
    there is no test.
    All is checked before the first image. Whatever was interrupted goes on when the same command is given
    again.
    """
    from fastcls import pipeline
    from fastcls.cli.extract import print_extraction
    from fastcls.cli.test import print_test
    from fastcls.cli.train_head import print_training
    from fastcls.plans.run import plan_run

    cut, views = options.read_cut(values), options.read_views(values)
    extraction = options.read_extract(values)
    head, config = options.read_head(values), options.read_training(values)
    plan = plan_run(
        *(options.open_data(photos, values), cut, head, config, Path(out)),
        cache_root=Path(cache_root),
        test=test,
        views=views,
        name=name,
        extraction=extraction,
        request=options.read_request(),
        restart=restart,
    )
    if dry_run:
        click.echo(str(plan))
        return
    for note in plan.parts.notes:
        click.echo(note)
    result = pipeline.run_planned(plan, progress=options.show_progress())
    print_extraction(result.cache, result.extraction)
    print_training(result.trained, out)
    if result.test:
        print_test(result.test)
    else:
        click.echo(f"{plan.parts.untested}. To test: fastcls test {shlex.quote(out)} DATA")

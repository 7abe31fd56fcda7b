"""`fastcls test`: a classifier on labeled images."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastcls.cli import options
from fastcls.cli.options import PixelSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_test
from fastcls.specs import FeaturesSpec, ResultSpec
from fastcls.specs.testing import EpochsSpec
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.data.dataset import Dataset

_SPECS = {
    "source": SourceSpec,
    "features": FeaturesSpec,
    "result": ResultSpec,
    "pixels": PixelSpec,
    "epochs": EpochsSpec,
}


@click.command(cls=SpecCommand, specs=_SPECS)
@click.argument("run", type=click.Path())
@click.argument("data", required=False, type=click.Path())
@click.option(
    "--out",
    type=click.Path(),
    help="Folder for tables and pictures. [default: RUN/test/NAME, with the name of DATA]",
)
@options.batch_size
def test(
    run: str,
    data: str | None,
    out: str | None,
    batch_size: int,
    source: SourceSpec,
    features: FeaturesSpec,
    result: ResultSpec,
    pixels: PixelSpec,
    epochs: EpochsSpec,
) -> None:
    """Test a classifier on labeled images.

    RUN is a run folder, a classifier.keras or an export. DATA is a folder per class, a CSV, JSON Lines,
    Parquet or TFRecord files, or a split folder, of which the test part is used. Earlier results are never
    overwritten.
    Images that RUN was trained or validated on are left out where DATA has others that it held out, as the
    folder that `fastcls run` split; else a warning counts them (see --images).

    Images whose bottlenecks are in the cache of the run are not forwarded again: only the head is applied. 32
    of them are forwarded anyway, as a check; if the predictions differ too much, all are. With --max-pixels,
    all are as well.

    With --epochs, each checkpoint that RUN has kept is tested on the images that RUN was validated on, from
    the cache: a table of predictions for each, and epochs.csv to compare them. `fastcls promote` makes one a
    run.
    """
    if epochs.epochs:
        _test_epochs(run, source.open(data, for_test=True) if data else None, out, epochs)
        return
    options.refuse_typed("a test without --epochs", "metric", "coverage_at")
    if not data:
        raise click.UsageError("Missing argument 'DATA'.")
    from fastcls.evaluation.gone import open_tested
    from fastcls.evaluation.tester import run_test
    from fastcls.inference.classifier import Classifier
    from fastcls.runs import TESTS

    dataset = open_tested(lambda: source.open(data, for_test=True), Path(data), Path(run), features)
    classifier = Classifier.load(run)
    tested = run_test(
        *(Path(run), dataset, Path(out) if out else None),
        classifier=classifier,
        batch_size=batch_size,
        max_pixels=pixels.max_pixels,
        features=replace(features, through_model=True) if pixels.max_pixels else features,
        result=result,
        progress=options.show_progress(),
    )
    print_test(tested)
    if tested.folder and tested.folder.parent == Path(run) / TESTS and not classifier.is_export:
        click.echo(f"Next: fastcls report {shlex.quote(run)} --test {shlex.quote(tested.folder.name)}")


def _test_epochs(run: str, data: Dataset | None, out: str | None, epochs: EpochsSpec) -> None:
    from fastcls.epochs import test_epochs

    unused = "batch_size", "through_model", "cache", "allow_missing", "images", "compact", "max_pixels"
    options.refuse_typed("--epochs", *unused)
    tested = test_epochs(run, data, out, epochs)
    click.echo(tested.table())
    click.echo(f"Best by {epochs.metric} on {count_of(tested.images, 'validation image')}: {tested.best}")
    click.echo(f"In {tested.folder}: epochs.csv, and predictions of each")
    click.echo(f"Next: fastcls promote {shlex.quote(run)} {tested.best} --out RUN2")

"""`fastcls calibrate`: probabilities that are as often right as they say."""

from __future__ import annotations

import shlex

import click

from fastcls.cli.options import SourceSpec, SpecCommand
from fastcls.cli.printing import print_calibration


@click.command(cls=SpecCommand, specs={"source": SourceSpec})
@click.argument("run", type=click.Path())
@click.argument("data", required=False, type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Run folder to create.")
def calibrate(run: str, data: str | None, out: str, source: SourceSpec) -> None:
    """Calibrate the probabilities of a run.

    RUN is a run folder, which stays as it is. The new run has one layer more, between logits and
    probabilities: a temperature, or with several labels per image a scale and an offset for each class. It
    predicts the same classes; thresholds move with the probabilities.

    It is fitted to what the head says of the images that it was validated on, from the cache. Where these
    were trained on in the end, as with logreg, heads of the same kind are fitted without each fifth of the
    images and judge it. Log loss and calibration error (ECE) are printed, before and after.

    DATA is where the images are that RUN was validated on: it is needed for a run of finetune alone.
    """
    from fastcls.calibrator import calibrate as calibrate_run

    print_calibration(calibrate_run(run, out, source.open(data, for_test=True) if data else None))
    click.echo(f"Next: fastcls test {shlex.quote(out)} DATA, or fastcls predict {shlex.quote(out)} IMAGE...")

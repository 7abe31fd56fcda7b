"""`fastcls train-head`: bottlenecks to a trained classifier."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fastcls.cli import options
from fastcls.cli.options import PlaceSpec, SpecCommand
from fastcls.cli.printing import print_training
from fastcls.specs import CorrectionSpec, FoldSpec, HeadSpec, StartSpec, TrainConfig

_HEAD = ("kind", "layers", "bottleneck_norm", "train_batch_norm", "refit", "prompts")


@click.command(
    "train-head",
    cls=SpecCommand,
    specs={
        "place": PlaceSpec,
        "corrected": CorrectionSpec,
        "further": StartSpec,
        "head": HeadSpec,
        "training": TrainConfig,
        "folding": FoldSpec,
    },
    changed={
        "place.name": {
            "help": "Name of the data set in the cache to train on.",
            "shown": "the only one in the cache",
        },
        "further.start": {"replaces": tuple(f"HeadSpec.{name}" for name in _HEAD)},
    },
)
@click.argument("cache", type=click.Path())
@options.run_options
def train_head(
    cache: str,
    out: str,
    restart: bool,
    dry_run: bool,
    place: PlaceSpec,
    corrected: CorrectionSpec,
    further: StartSpec,
    head: HeadSpec,
    training: TrainConfig,
    folding: FoldSpec,
) -> None:
    """Train a head on cached bottlenecks.

    CACHE is the folder that `fastcls extract` has made of the images with a base and a cut (its output names
    it, `fastcls runs` lists all), or the folder of several: the cache is chosen where there is one, or only
    one that holds the data set --name; else the message lists them. The images are not needed.

    The result is a classifier of images: the trained head, joined to the trunk. If a training is interrupted,
    run the same command again to resume.

    With --folds the head is cross-validated too, on the images for training and validation: OUT gets
    folds.json and out_of_fold.csv. The classifier is the same as without.
    """
    from fastcls.cache.store import Cache
    from fastcls.pipeline import train_planned
    from fastcls.plans.training import plan_training

    start = Path(further.start) if further.start else None
    is_own = start is None or head != HeadSpec() or options.is_typed(*_HEAD[1:])
    plan = plan_training(
        *(Cache.find(cache, place.name), head if is_own else None, training, Path(out)),
        start=start,
        corrections=Path(corrected.corrections) if corrected.corrections else None,
        given=options.typed_options(),
        options=options.saved(place=place, corrected=corrected, further=further, folding=folding),
        folds=folding,
        restart=restart,
    )
    if dry_run:
        click.echo(str(plan))
        return
    for line in plan.training.told:
        click.echo(line)
    _, trained = train_planned(plan, on_validated=click.echo, progress=options.show_progress())
    print_training(trained, out)
    run = shlex.quote(out)
    click.echo(f"Next: fastcls test {run} DATA, or fastcls predict {run} IMAGE...")

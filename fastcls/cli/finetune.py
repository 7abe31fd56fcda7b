"""`fastcls finetune`: train a base itself, on images."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fastcls.cli import options
from fastcls.cli.options import PixelSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_training
from fastcls.specs import BaseSpec, FinetuneSpec, HeadSpec, StartSpec, TrainConfig

# What a run that is trained further has already.
_KEPT = (
    *("BaseSpec.weights", "BaseSpec.size", "BaseSpec.normalize", "BaseSpec.include_top"),
    *("HeadSpec.kind", "HeadSpec.layers", "HeadSpec.bottleneck_norm", "FinetuneSpec.downscale"),
)


@click.command(
    cls=SpecCommand,
    specs={
        "source": SourceSpec,
        "further": StartSpec,
        "start": BaseSpec,
        "finetuning": FinetuneSpec,
        "pixels": PixelSpec,
        "head": HeadSpec,
        "training": TrainConfig,
    },
    changed={
        "start.name": {"is_required": False, "replaces": ("StartSpec.start",)},
        "further.start": {
            "help": "Run, or checkpoint kept in one, to train further, in place of a base.",
            "silences": lambda start: _KEPT if start else (),
            "replaces": ("BaseSpec.name",),
        },
        # Trained weights are changed little by little.
        "training.epochs": {"default": 20},
        "training.learning_rate": {"default": 1e-4},
    },
    left_out=(
        *("head.train_batch_norm", "training.views", "training.allow_partial", "training.allow_stale"),
    ),
)
@click.argument("data", type=click.Path())
@options.request_options
def finetune(
    data: str,
    out: str,
    restart: bool,
    dry_run: bool,
    source: SourceSpec,
    further: StartSpec,
    start: BaseSpec | None,
    finetuning: FinetuneSpec,
    pixels: PixelSpec,
    head: HeadSpec,
    training: TrainConfig,
) -> None:
    """Train a network on the images of DATA, base and head together.

    The two steps of the field: train a head from the cache, then go on from that run at a low rate. Each
    epoch forwards each image again; `train-head --head tail` on a cache with views is many times quicker
    where only the last layers are to be trained.
    """
    from fastcls.pipeline import finetune_planned
    from fastcls.plans.finetuning import plan_finetuning

    if (start is None) == (further.start is None):
        raise click.UsageError("Give either --base, or --from and the folder of a run.")
    dataset = source.open(data)
    plan = plan_finetuning(
        *(dataset, start or Path(str(further.start)), finetuning, training, Path(out)),
        head=head if start else None,
        max_pixels=pixels.max_pixels,
        request=options.saved(source=source, further=further, pixels=pixels),
        restart=restart,
    )
    if dry_run:
        click.echo(str(plan))
        return
    trained = finetune_planned(plan, progress=options.show_progress())
    for path, reason in trained.unreadable.items():
        click.echo(f"Unreadable: {path!r}: {reason}", err=True)
    print_training(trained, out)
    run = shlex.quote(out)
    tested = shlex.quote(data) if "test" in dataset.splits else "DATA"  # the rest was trained on
    click.echo(f"Next: fastcls test {run} {tested}, or fastcls predict {run} IMAGE...")

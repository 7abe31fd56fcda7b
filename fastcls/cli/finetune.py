"""`fastcls finetune`: train a base itself, on images."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fastcls.cli import options
from fastcls.cli.options import PixelSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_pruned, print_training
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
            "help": "Run or checkpoint to start from, to train it further, instead of --base.",
            "silences": lambda start: _KEPT if start else (),
            "replaces": ("BaseSpec.name",),
        },
        "head.kind": {"default": "linear"},
        # Trained weights are changed little by little.
        "training.epochs": {"default": 20},
        "training.learning_rate": {"default": 1e-4},
    },
    left_out=(
        *("head.train_batch_norm", "head.refit", "head.prompts"),
        *("training.views", "training.allow_partial", "training.allow_stale"),
    ),
)
@click.argument("data", type=click.Path())
@options.run_options
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
    """Train a base and a head together, on images.

    This is usually the second of two steps: train a head on the cache first, then start from that run
    (--from) with a low learning rate. Each epoch forwards every image of DATA again. To train only the last
    layers, `train-head --head tail` on a cache with views is many times faster.
    """
    from fastcls.pipeline import finetune_planned
    from fastcls.plans.finetuning import plan_finetuning

    if (start is None) == (further.start is None):
        raise click.UsageError("Give either --base, or --from with the folder of a run.")
    dataset = source.open(data)
    plan = plan_finetuning(
        *(dataset, start or Path(str(further.start)), finetuning, training, Path(out)),
        head=head if start else None,
        max_pixels=pixels.max_pixels,
        options=options.saved(source=source, further=further, pixels=pixels),
        restart=restart,
    )
    if dry_run:
        click.echo(str(plan))
        return
    trained = finetune_planned(plan, progress=options.show_progress())
    for path, reason in trained.unreadable.items():
        click.echo(f"Unreadable: {path!r}: {reason}", err=True)
    print_training(trained, out)
    if trained.pruned:
        print_pruned(trained)
    run = shlex.quote(out)
    tested = shlex.quote(data) if "test" in dataset.splits else "DATA"  # the rest was trained on
    click.echo(f"Next: fastcls test {run} {tested}, or fastcls predict {run} IMAGE...")

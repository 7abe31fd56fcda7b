"""`fastcls run`: from a folder of images to a tested classifier."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastcls.cli import options
from fastcls.cli.options import PlaceSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_extraction, print_summary, print_test, print_training
from fastcls.specs import CutSpec, ExtractConfig, HeadSpec, QualitySpec, TrainConfig, ViewSpec
from fastcls.specs.option import option
from fastcls.specs.options import settle
from fastcls.specs.outputs import without_validation

if TYPE_CHECKING:
    from fastcls.extraction.executors import Executor
    from fastcls.plans.run import RunPlan


@dataclass(frozen=True)
class PartsSpec:
    """Which images are not trained on."""

    val: float | None = option(
        None,
        "Fraction of each class for validation; 0 trains without validation.",
        low=0,
        below=1,
        shown="the validation part of PHOTOS, or 0.2",
        silences=without_validation,
    )
    test: float | None = option(
        None,
        "Fraction of each class for testing; 0 skips the test.",
        low=0,
        below=1,
        shown="the test part of PHOTOS, or 0.2 if they are not split",
    )

    def __post_init__(self) -> None:
        settle(self)


@click.command(
    cls=SpecCommand,
    specs={
        "recipe": QualitySpec,
        "source": SourceSpec,
        "parts": PartsSpec,
        "cut": CutSpec,
        "views": ViewSpec,
        "extraction": ExtractConfig,
        "place": PlaceSpec,
        "head": HeadSpec,
        "training": TrainConfig,
    },
    changed={"training.batch_size": {"flag": "--train-batch-size"}},
    left_out=("training.val", "training.views", "training.allow_partial", "training.allow_stale"),
    several=("cut",),
)
@click.argument("photos", type=click.Path())
@options.run_options
def run(
    photos: str,
    out: str,
    restart: bool,
    dry_run: bool,
    recipe: QualitySpec,
    source: SourceSpec,
    parts: PartsSpec,
    cut: list[CutSpec],
    views: ViewSpec,
    extraction: ExtractConfig,
    place: PlaceSpec,
    head: HeadSpec,
    training: TrainConfig,
) -> None:
    """Split, extract, train and test in one command.

    PHOTOS is a folder per class, a CSV, JSON Lines, Parquet or TFRecord files, or a folder that is already
    split. The images stay where they are; the split is stored in the cache. A second run with the same base
    and cut forwards nothing again. If split data has no validation part, some of its train part is used for
    validation; if it has no test part, there is no test.

    Everything is checked before the first image. If the command is interrupted, run it again to resume.
    """
    from fastcls.extraction.early import early_executor
    from fastcls.plans.run import plan_run

    if len(cut) > 1:
        raise click.UsageError(
            "A head is trained on one cut: give one --cut. `fastcls extract` takes several."
        )
    dataset, root = source.open(photos), Path(place.cache)
    with early_executor(dataset, cut, root, extraction, views, place.name, is_dry=dry_run) as executor:
        plan = plan_run(
            *(dataset, cut[0], head, replace(training, val=parts.val), Path(out)),
            cache_root=root,
            test=parts.test,
            views=views,
            name=place.name,
            extraction=extraction,
            given=options.typed_options(),
            options=options.saved(
                recipe=recipe, source=source, parts=parts, extraction=extraction, place=place
            ),
            restart=restart,
        )
        if dry_run:
            click.echo(str(plan))
        else:
            _carry_out(plan, out, executor)


def _carry_out(plan: RunPlan, out: str, executor: Executor) -> None:
    from fastcls import pipeline

    for line in filter(None, (str(plan.parts), *plan.parts.notes, plan.why)):
        click.echo(line)
    written = plan.writes  # before it is there
    result = pipeline.run_planned(
        plan,
        executor=executor,
        on_extracted=print_extraction,
        on_trained=lambda trained: print_training(trained, out),
        progress=options.show_progress(),
    )
    if result.test:
        print_test(result.test)
    else:
        click.echo(f"{plan.parts.untested}. To test: fastcls test {shlex.quote(out)} DATA")
    print_summary(result, out, written)

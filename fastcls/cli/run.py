"""`fastcls run`: from a folder of images to a tested classifier."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fastcls.cli import options
from fastcls.cli.logs import hide_training
from fastcls.cli.options import PlaceSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_extraction, print_report, print_summary, print_test, print_training
from fastcls.specs import CutSpec, ExtractConfig, HeadSpec, QualitySpec, TrainConfig, ViewSpec
from fastcls.specs.option import option
from fastcls.specs.options import settle
from fastcls.specs.outputs import without_validation
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.extraction.executors.base import Executor
    from fastcls.pipeline import RunResult
    from fastcls.plans.run import RunPlan

logger = logging.getLogger(__name__)
MOST_REPORTED = 20_000  # images: of more, a report takes a minute and longer


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


@dataclass(frozen=True)
class ReportSpec:
    """What is shown of the run at its end."""

    report: bool = option(True, "Do not write the page about the run that `fastcls report` writes.")

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
        "ending": ReportSpec,
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
    ending: ReportSpec,
) -> None:
    """Split, extract, train and test in one command.

    PHOTOS is a folder per class, a CSV, JSON Lines, Parquet or TFRecord files, or a folder that is already
    split. The images stay where they are; the split is stored in the cache. A second run with the same base
    and cut forwards nothing again. If split data has no validation part, some of its train part is used for
    validation; if it has no test part, there is no test. At the end, OUT/report.html shows all of it.

    Everything is checked before the first image. If the command is interrupted, run it again to resume.
    """
    from fastcls.extraction.early import early_executor
    from fastcls.plans.run import plan_run

    if len(cut) > 1:
        raise click.UsageError(
            "A head is trained on one cut: give one --cut. `fastcls extract` takes several."
        )
    dataset, root = source.open(photos), place.root()
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
                recipe=recipe, source=source, parts=parts, extraction=extraction, place=place, ending=ending
            ),
            restart=restart,
        )
        if dry_run:
            click.echo(str(plan))
            if ending.report:
                from fastcls.runs import REPORT

                click.echo(f"Then the page about it: {Path(out) / REPORT}")
        else:
            result, is_new = _carry_out(plan, out, executor, ending)
    if not dry_run and ending.report:
        _report(result, Path(out), is_new=is_new)


def _carry_out(
    plan: RunPlan, out: str, executor: Executor | None, ending: ReportSpec
) -> tuple[RunResult, bool]:
    """Do what is planned; returns what was made, and whether any of it is new."""
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
    print_summary(result, out, written, is_reported=ending.report)
    return result, bool(written)


def _report(result: RunResult, out: Path, *, is_new: bool) -> None:
    """Write the page about a run that is complete, and stays so whatever comes of the page."""
    from fastcls.runs import REPORT

    page, images = out / REPORT, result.extraction.images
    again = f"fastcls report {shlex.quote(str(out))}"
    if page.is_file() and not is_new:
        click.echo(f"Report: {page}")
        return
    if images > MOST_REPORTED:
        click.echo(f"A report of {count_of(images, 'image')} takes a while. To write it: {again}")
        return
    click.echo("Writing the report ... (Ctrl-C leaves it out; everything else is done)")
    try:
        from fastcls.report.reporter import make_report

        hide_training()  # that of the audit
        print_report(make_report(out))
    except KeyboardInterrupt:
        click.echo(f"The report is left out. To write it: {again}")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning("The run is complete, but not its report (%s). To write it: %s", reason, again)

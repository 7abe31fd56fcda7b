"""`fastcls compare`: bases on a data set, or finished runs on the same test images."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fastcls.cli import options
from fastcls.cli.logs import hide_training
from fastcls.cli.options import PlaceSpec, SourceSpec, SpecCommand
from fastcls.cli.printing import print_next_training
from fastcls.errors import spoken
from fastcls.specs import CutSpec, ExtractConfig
from fastcls.specs.checks import no_effect
from fastcls.specs.comparing import ProbeSpec, cuts_of
from fastcls.wording import count_of


@click.command(
    cls=SpecCommand,
    specs={
        "source": SourceSpec,
        "cut": CutSpec,
        "probe": ProbeSpec,
        "extraction": ExtractConfig,
        "place": PlaceSpec,
    },
    changed={
        "cut.base.name": {
            "is_required": False,
            "help": "Bases to compare: names from `fastcls bases`, model files and whatever else `fastcls "
            "extract` takes, separated by commas, or --base repeated. Each may have weights and a "
            "normalization of its own: BASE=FILE, BASE@torch.",
            "metavar": "BASE[=WEIGHTS][@NORMALIZATION],...",
        },
        "cut.base.weights": {
            "help": "Weights of the bases that are given without: imagenet, random (seeded), or the file of "
            "a single base."
        },
        "cut.base.normalize": {
            "help": "Normalization of the bases that are given without: tf, torch, caffe, none, or MEAN,STD."
        },
        "cut.layer": {
            "help": "Where to cut each base; can be repeated. The cuts of a base share a forward pass, and "
            "each is a candidate. default is the cut before the classifier.",
            "metavar": "LAYER|SHARE%|default",
        },
        "cut.pool": {"default": "auto", "shown": ""},
    },
    several=("base", "cut"),
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATA|RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to create for comparison.json and comparison.csv; of bases also comparison.png.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be forwarded, and stop.")
def compare(
    paths: tuple[Path, ...],
    out: Path | None,
    dry_run: bool,
    source: SourceSpec,
    cut: list[Any],
    probe: ProbeSpec,
    extraction: ExtractConfig,
    place: PlaceSpec,
) -> None:
    """Compare bases on your images, or finished runs on their test images.

    With DATA and --base, each base is extracted once, into the caches of `fastcls extract`, and ranked by a
    cross-validated logistic regression, with the same folds for all. Test images have no part in the ranking.
    Beside it are speed, size, multiply-adds and parameters, and which bases are efficient. If the command is
    interrupted, run it again to go on.

    With several RUNs, what `fastcls test` wrote for the same images is put side by side: figures with
    intervals, McNemar's test of the two best, and what the runs were asked for. Nothing is forwarded.
    """
    from fastcls.comparison.runs import are_runs

    if are_runs(paths):
        _compare_runs(paths, out)
        return
    if len(paths) > 1:
        raise click.UsageError(
            "Bases are compared on one data set: give one DATA. Several RUNs are compared, too."
        )
    if not cut[0]:
        raise click.UsageError(
            f"{paths[0]} is not a run. To compare bases on a data set, give --base BASE,BASE."
        )
    _compare_bases(source.open(paths[0]), cuts_of(cut), out, dry_run, probe, extraction, place)


def _compare_runs(paths: tuple[Path, ...], out: Path | None) -> None:
    from fastcls.comparison.runs import compare_runs

    typed = [own.flag for own in options.typed_options()]
    if typed or options.is_typed("dry_run"):
        raise click.UsageError(no_effect(typed or ["--dry-run"], "runs"))
    found = compare_runs(paths, folder=out)
    click.echo(found.table())
    _tell_files(out)
    best = found.candidates[0]
    click.echo(f"Next: fastcls report {shlex.quote(best.name)} --test {shlex.quote(best.test.name)}")


def _compare_bases(
    dataset: Any,
    cuts: list[CutSpec],
    out: Path | None,
    dry_run: bool,
    probe: ProbeSpec,
    extraction: ExtractConfig,
    place: PlaceSpec,
) -> None:
    from fastcls.cache.store import Cache
    from fastcls.comparison.bases import compare_planned, plan_comparison

    asked: dict[str, Any] = {"probe": probe, "name": place.name, "folder": out}
    plan = plan_comparison(dataset, cuts, place.root(), extraction, **asked)
    if dry_run:
        click.echo(f"{plan}\nNothing was written")
        return
    hide_training()
    result = compare_planned(plan, on_extracted=_print_extracted, progress=options.show_progress())
    click.echo(f"\n{result.table()}")
    _tell_files(out)
    best = result.candidates[0]
    print_next_training(Cache(best.cache), best.data_set, dataset.splits)


def _print_extracted(name: str, cache: Any, done: Any) -> None:
    images = count_of(done.images, "image")
    told = f"all {images} from the cache"
    if done.forwarded:
        told = f"{done.forwarded:,} of {images} forwarded in {done.seconds:.1f} s"
    unreadable = f", {done.failures:,} unreadable" if done.failures else ""
    click.echo(f"{name}: {told}{unreadable}: {spoken(cache.folder)}")


def _tell_files(out: Path | None) -> None:
    if out:
        click.echo(f"In {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")

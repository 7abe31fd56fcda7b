"""`fastcls audit`: what is doubtful about the images and labels of a data set."""

from __future__ import annotations

import shlex
from pathlib import Path

import click


@click.command()
@click.argument("cache", type=click.Path())
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the data set in the cache to look at. [default: the only one in the cache]",
)
@click.option(
    "--out",
    type=click.Path(),
    help="New folder for issues.csv and audit.json. [default: audits/NAME]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the counts as JSON instead of the most certain issues."
)
def audit(cache: str, name: str | None, out: str | None, as_json: bool) -> None:
    """Find likely label errors, duplicates, outliers and images of poor quality in a cache.

    CACHE is the folder that `fastcls extract` or `run` has made of the images (`fastcls runs` lists all), or
    the folder of several. Images are neither read nor forwarded.

    issues.csv lists, the most certain first: one photo under different labels, likely label errors, identical
    and nearly identical photos within and across splits, images unlike those to train on, and images that are
    dark, bright, blurred, tiny, of an odd shape or of one color. Look at them,
    write relabel, drop, split:train, split:val or split:test into the column `action` where you agree, and
    train with `fastcls train-head CACHE --corrections issues.csv`.
    """
    import json

    from fastcls.cli.logs import hide_training
    from fastcls.evaluation.auditing import audit as find_issues
    from fastcls.evaluation.auditing import describe
    from fastcls.evaluation.features import Features
    from fastcls.evaluation.issue_table import ISSUES, REPORT, new_folder, require_new, write_audit

    if out:
        require_new(Path(out))
    hide_training()
    features = Features.of(cache, name)
    found = find_issues(features)
    folder = Path(out) if out else new_folder(features.name)
    write_audit(found, folder)
    click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False) if as_json else describe(found))
    click.echo(f"In {folder}: {ISSUES}, {REPORT}", err=as_json)
    if not as_json:
        place, table = shlex.quote(cache), shlex.quote(str(folder / ISSUES))
        named = f" --name {shlex.quote(name)}" if name else ""
        click.echo(
            f"Next: look at {table}, fill in its column action, then\n"
            f"  fastcls train-head {place}{named} --corrections {table} --out runs/NAME"
        )

"""`fastcls cache`: what caches hold, and tools for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastcls.cli import options
from fastcls.errors import spoken
from fastcls.sizes import format_bytes
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.caching.collector import Garbage
    from fastcls.caching.describer import CacheInfo, CacheSummary

_CACHE = click.argument("cache", type=click.Path())
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_KINDS = ("npy", "parquet")


def _runs(purpose: str) -> Callable[[Any], Any]:
    """The option for folders of runs, with what they are for."""
    return click.option(
        "--runs",
        multiple=True,
        type=click.Path(exists=True, file_okay=False),
        metavar="FOLDER",
        help=f"{purpose}. Can be repeated. [default: the current folder]",
    )


@click.group()
def cache() -> None:
    """List, check and tidy up caches of bottlenecks.

    CACHE is the folder that `fastcls extract` or `run` has made, or the folder of caches.
    """


@cache.command()
@click.argument("folders", nargs=-1, type=click.Path(), metavar="[FOLDER]...")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per cache.")
def ls(folders: tuple[str, ...], as_json: bool) -> None:
    """List the caches below each FOLDER, by default the current one.

    Hidden folders and links are skipped. Unfinished and damaged ones are listed with the reason.
    """
    from fastcls.caching.describer import list_caches

    found = [each for folder in folders or (".",) for each in list_caches(folder)]
    if as_json:
        for each in found:
            click.echo(json.dumps(each.to_dict()))
        return
    click.echo(_table(found) if found else "No caches found")
    for each in found:
        if each.entry.problem:
            click.echo(
                f"{each.entry.state.capitalize()}: {spoken(each.entry.path)}: {each.entry.problem}", err=True
            )


@cache.command()
@_CACHE
@_runs("Look for runs that were trained on it below this folder, too")
@_JSON
def info(cache: str, runs: Sequence[str], as_json: bool) -> None:
    """Show what a cache holds, and what made it."""
    from fastcls.caching.describer import cache_info

    found = cache_info(cache, runs=runs or ["."])
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else _described(found))


@cache.command()
@click.argument("caches", nargs=-1, required=True, type=click.Path(), metavar="CACHE...")
def verify(caches: Sequence[str]) -> None:
    """Read all files of caches and compare them with their checksums.

    Exit code 1 if one is damaged: each is named, with what to do.
    """
    from fastcls.caching.verifier import verify_cache

    found = [each for path in caches for each in verify_cache(path, progress=options.show_progress())]
    for each in found:
        for damage in each.damages:
            click.echo(str(damage), err=True)
        lacking = sum(damage.kind == "rows" for damage in each.damages)
        states = [count_of(len(each.damages) - lacking, "damaged file")] * (len(each.damages) > lacking)
        states += [f"{count_of(lacking, 'data set')} without all rows"] * bool(lacking)
        state = ", ".join(states) or "whole"
        rows, read = count_of(each.rows, "row"), count_of(each.files, "file")
        click.echo(f"{spoken(each.folder)}: {rows} in {read}, {format_bytes(each.bytes)}: {state}")
        _tell_others(each.others)
    if not all(each.is_whole for each in found):
        sys.exit(1)


@cache.command()
@click.argument("caches", nargs=-1, required=True, type=click.Path(), metavar="CACHE...")
def repair(caches: Sequence[str]) -> None:
    """Remove what is damaged in caches, and keep every row that is whole.

    The whole rows of a damaged shard go into a new one first. The same `fastcls extract` then makes again
    what is missing, and forwards only the images whose rows are lost. Exit code 1 if something is damaged
    that only it can replace.
    """
    from fastcls.caching.repairer import repair_cache

    done = [each for path in caches for each in repair_cache(path, progress=options.show_progress())]
    for each in done:
        for repaired in each.repairs:
            click.echo(str(repaired))
        if not each.repairs:
            click.echo(f"{each.found.folder}: nothing is damaged")
    if any(each.left for each in done):
        sys.exit(1)


@cache.command()
@_CACHE
@_runs("Keep the images that runs below this folder were trained on")
@click.option(
    "--drop",
    multiple=True,
    metavar="NAME",
    help="Also remove this data set from the cache: its tables, and the rows that only it needs. Can be "
    "repeated.",
)
@click.option(
    "--unknown",
    is_flag=True,
    help="Also remove rows of which nobody knows to which image they belong: views of recipes that no data "
    "set has now, and rows of versions that did not measure images.",
)
@click.option("--yes", is_flag=True, help="Remove it. Without this option, only show what would go.")
def gc(cache: str, runs: Sequence[str], drop: Sequence[str], unknown: bool, yes: bool) -> None:
    """Remove rows of images that no data set of a cache and no run names, and what killed processes left.

    Rows of views count as those of their image. Images are not looked at: run `fastcls extract` first, so
    that the data set no longer lists those that you have deleted. Nothing may train on the cache meanwhile.
    """
    from fastcls.caching.collector import gc_cache, plan_gc

    find = gc_cache if yes else plan_gc
    garbage = find(cache, runs=runs or ["."], drop=drop, unknown=unknown)
    click.echo(_told(garbage, "Removed" if yes else "Would remove"))
    if not yes and not garbage.is_none:
        click.echo("Nothing was removed. Add --yes to remove it")


@cache.command()
@click.argument("into", type=click.Path())
@click.argument("sources", nargs=-1, required=True, type=click.Path(), metavar="FROM...")
def merge(into: str, sources: Sequence[str]) -> None:
    """Add the rows and data sets of other caches to the cache INTO.

    All must have been made with the same base, cut and precision. FROM is not changed. Shards are hard-linked
    where that is possible, and copied where not; rows that are there already are not added again.
    """
    from fastcls.caching.merger import merge_caches

    for done in merge_caches(into, sources):
        damaged = f", {count_of(done.damaged, 'damaged row')} left behind" if done.damaged else ""
        rows, shards = count_of(done.rows, "new row"), count_of(done.shards, "shard")
        click.echo(f"{spoken(done.source)}: {rows} in {shards}, {done.known:,} there already{damaged}")
        for name, own in done.names.items():
            also = "" if own == name else f", as {own}: {name} is another data set here"
            click.echo(f"  data set {name}{also}")


@cache.command()
@_CACHE
@click.argument("out", type=click.Path())
@click.option("--to", type=click.Choice(_KINDS), default=_KINDS[0], show_default=True, help="Kind of file.")
@click.option("--name", metavar="NAME", help="The data set. [default: the only one in the cache]")
@click.option("--split", metavar="SPLIT", help="Only its images of this split: train, val or test.")
def export(cache: str, out: str, to: str, name: str | None, split: str | None) -> None:
    """Write the bottlenecks of a data set for other programs, in the order of its table.

    npy makes a folder OUT with features.npy, an array (N, ...), and samples.csv with path, classes, split,
    group and digest of each row. parquet makes a file OUT with the same in columns (pip install
    'fastcls[parquet]').
    """
    from fastcls.caching.exporter import export_cache

    progress = options.show_progress()
    done = export_cache(cache, out, to, name=name, split=split, progress=progress)
    without = f"; {count_of(done.left_out, 'image')} without bottleneck left out" if done.left_out else ""
    click.echo(f"{done.path}: {count_of(done.images, 'row')}{without}")


def _table(found: Iterable[CacheSummary]) -> str:
    from fastcls.evaluation.text_table import format_table

    rows = [["cache", "changed", "size", "base", "cut", "shape", "dtype", "precision", "rows", "data sets"]]
    for each in found:
        entry, known = each.entry, each.manifest
        made = ["-"] * 3
        if known:
            made = ["x".join(map(str, known.shape)), known.dtype, known.precision]
        names = ", ".join(f"{name} {count:,}" for name, count in entry.images.items()) or "-"
        base = Path(entry.base).stem if "/" in entry.base else entry.base or "-"
        figures = [entry.date[:10] or "-", format_bytes(entry.bytes), base, entry.cut or "-"]
        rows.append([spoken(entry.path), *figures, *made, f"{each.rows:,}", names])
    return format_table(rows)


def _described(found: CacheInfo) -> str:
    known = found.manifest
    pooled = "" if known.pool == "none" else f", pooled by {known.pool}"
    size, shape = ("x".join(map(str, sides)) for sides in (known.size, known.shape))
    lines = [
        f"Cache {spoken(found.folder)}",
        f"  {known.base} (weights {known.weights}) cut at {known.layer}{pooled}",
        f"  images {size}, normalize {known.normalize}, decoded by {known.decode}, resized by {known.resize}",
        f"  bottlenecks {shape} {known.dtype}, computed in {known.precision}"
        + (f" with {count_of(len(known.float32_layers), 'layer')} in float32" * bool(known.float32_layers)),
        f"  made by {', '.join(f'{name} {version}' for name, version in known.versions.items())}",
        f"  fingerprint {known.fingerprint}",
        f"{count_of(found.rows, 'row')} in {count_of(found.shards, 'shard')}, "
        f"{format_bytes(found.shard_bytes)} of {format_bytes(found.bytes)}; {found.unlisted:,} are views, or "
        "of images that no data set lists",
    ]
    for each in found.data_sets:
        views = f", {each.views} views" if each.views > 1 else ""
        counts = (
            f"{count_of(each.images, 'image')}, {each.rows:,} cached{views}, {each.failures:,} unreadable"
        )
        told = each.problem or f"{counts}; {each.data}, extracted {each.written}"
        lines.append(f"Data set {each.name}: {told}")
    for engine, figures in known.fidelity.items():
        measured = {name: value for name, value in figures.items() if type(value) in (int, float)}
        told = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
        lines.append(f"Engine {engine} against Keras in float32: {told}")
    lines += [f"Rows by {maker}: {count_of(count, 'shard')}" for maker, count in found.makers.items()]
    lines += [f"Run {run}" for run in found.runs] or ["No run trained on it was found"]
    if found.mirror:
        size = format_bytes(found.mirror_bytes)
        lines.append(f"Mirror {found.mirror}: {size} on this machine; it may go when no command uses it")
    lines += [f"No part of it: {path}" for path in found.others]
    return "\n".join(lines)


def _told(garbage: Garbage, verb: str) -> str:
    shards, runs = count_of(len(garbage.shards), "shard"), garbage.runs
    lines = [
        f"{verb} {count_of(garbage.rows, 'row')} of {shards}, {format_bytes(garbage.bytes)}; "
        f"{garbage.kept:,} stay",
        *(f"{verb} the data set {listing.name}" for listing in garbage.dropped),
        *([f"{verb} {count_of(len(garbage.leftovers), 'leftover')}"] if garbage.leftovers else []),
        f"Kept for {count_of(len(runs.runs), 'run')} below {', '.join(map(str, runs.looked_at))}; runs "
        "elsewhere were not looked for: --runs FOLDER",
    ]
    if garbage.unknown:
        rows = count_of(garbage.unknown, "row")
        lines.append(f"Of {rows} nobody knows to which image they belong (views of other recipes): --unknown")
    return "\n".join(lines)


def _tell_others(others: Sequence[Path]) -> None:
    for path in others:
        click.echo(f"Not checked, as it is no part of the cache: {spoken(path)}", err=True)

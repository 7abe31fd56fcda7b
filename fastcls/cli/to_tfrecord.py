"""`fastcls to-tfrecord`: any data set as TFRecord files."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from tqdm import tqdm

from fastcls.cli import options
from fastcls.cli.options import SourceSpec, SpecCommand
from fastcls.wording import count_of


@click.command("to-tfrecord", cls=SpecCommand, specs={"source": SourceSpec})
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to create.")
@click.option("--shards", type=int, help="Files per split. [default: as many as hold 128 MiB each]")
def to_tfrecord(data: Path, out: Path, shards: int | None, source: SourceSpec) -> None:
    """Write a data set as TFRecord files.

    The images are packed unchanged, and all commands take the files as DATA. DATA is a folder per class, a
    split folder, a CSV, JSON Lines, Parquet or TFRecord files. Each split gets files such as
    train-00000-of-00004.tfrecord of tf.train.Example with image/encoded, image/class/label, image/class/text
    and image/filename; labels.txt lists the class numbers with their names.
    """
    from fastcls.data.writers.tfrecord import write_tfrecords

    dataset = source.open(data)
    count = len(dataset.samples)
    with tqdm(total=count, unit="image", desc="pack", disable=not options.show_progress()) as bar:
        written = write_tfrecords(dataset, out, shards, watch=bar.update)
    for shard in written:
        click.echo(f"{shard.name}: {count_of(shard.count, 'image')}, {shard.bytes / 2**20:.1f} MiB")
    click.echo(f"{out}: {dataset.counted} in {count_of(len(written), 'file')}")
    click.echo(f"Next: fastcls extract {shlex.quote(str(out))} --base BASE")

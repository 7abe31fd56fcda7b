"""What pruning costs in accuracy and saves in size: trainings that differ in --sparsity alone.

    fastcls split-data PHOTOS --val 0.2 --test 0.2 --out DATA
    python scripts/compare_sparsity.py DATA OUT [--sparsity 0 --sparsity 0.8] [--seed 0] -- FINETUNE-OPTIONS

FINETUNE-OPTIONS are those of `fastcls finetune` that all share: base, size, epochs. The same images are
tested each time. What is in OUT is not trained again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import click

import fastcls


@click.command()
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("options", nargs=-1)
@click.option("--sparsity", "shares", type=float, multiple=True, default=(0.0, 0.5, 0.8), show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0,), show_default=True)
def main(
    data: Path, out: Path, options: tuple[str, ...], shares: tuple[float, ...], seeds: tuple[int, ...]
) -> None:
    """Train on DATA into folders of OUT, and print a row for each."""
    click.echo("| `--sparsity` | seed | test accuracy (95 % interval) | classifier.keras | its zip |")
    click.echo("|---|---|---|---|---|")
    for share in shares:
        for seed in seeds:
            run = out / f"{share:g}-{seed}"
            asked = ["--sparsity", str(share)] if share else []
            if not run.exists():
                command = ["finetune", str(data), *options, *asked, "--seed", str(seed), "--out", str(run)]
                subprocess.run([sys.executable, "-m", "fastcls", *command], stdout=sys.stderr, check=True)
            click.echo(_row(f"{share:g}" if share else "none", seed, data, run))


def _row(share: str, seed: int, data: Path, run: Path) -> str:
    figures = fastcls.Classifier.load(run).test(data).evaluation
    low, high = figures.intervals["accuracy"]
    accuracy = f"{figures.scores()['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    file = run / "classifier.keras"
    with tempfile.TemporaryFile() as packed:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(file, file.name)
        sizes = (file.stat().st_size, packed.tell())
    return f"| {share} | {seed} | {accuracy} | " + " | ".join(f"{size / 1e6:.1f} MB" for size in sizes) + " |"


if __name__ == "__main__":
    main()

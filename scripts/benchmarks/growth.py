"""What a cache costs as it grows: many tiny images and an engine that costs nothing."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Cell, Spread, Table, ratio
from benchmarks.fresh import Run, run_fresh
from benchmarks.photos import draw_tiny
from benchmarks.setup import Setup, in_turn, reported, skips
from fastcls.data.dataset import Dataset
from fastcls.engines import Engine
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig

_COLUMNS = (
    "images",
    "run",
    "total seconds",
    "of them in listing",
    "in extract()",
    "microseconds per image",
    "MiB, largest process",
)


def measure(setup: Setup) -> list[Table]:
    """A first run and again with nothing to do, at each count."""
    base = setup.folder / "mean.keras"
    run_fresh(make_base, path=str(base))
    rows, notes = (
        [],
        ["8x8 PNG files, and an engine that takes the mean color; the rest is what fastcls costs."],
    )
    for count in setup.counts:
        photos = draw_tiny(setup.folder / f"tiny-{count}", count)
        options = {"photos": str(photos), "base": str(base), "out": str(setup.folder / f"cache-{count}")}
        act = functools.partial(run_fresh, extract_mean, **options)
        for name, repeats in (("first", 1), ("again, nothing to do", setup.repeats)):
            runs = in_turn({f"{count} images, {name}": act}, repeats)
            notes += skips(runs)
            rows += [_row(count, name, tried) for tried in runs.values() if not tried[0].skipped]
    return [Table("Growth", _COLUMNS, rows, tuple(notes))]


class MeanEngine(Engine):
    """An engine whose cost does not count."""

    is_reference = True

    def __init__(self, trunk: Path, threads: int = 0) -> None:
        """Load nothing."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """The mean color of images (B, H, W, 3)."""
        return images.mean(axis=(1, 2), dtype=np.float32) / 255


def make_base(path: str) -> dict[str, Any]:
    """Save a Keras model that computes what the engine does."""
    from fastcls.backend import import_keras

    keras = import_keras()
    image = keras.Input((8, 8, 3))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    keras.Model(image, mean).save(path)
    return {}


def extract_mean(photos: str, base: str, out: str) -> dict[str, Any]:
    """List the images and extract."""
    from fastcls.extraction.extractor import extract

    started = time.perf_counter()
    dataset = Dataset.from_folder(Path(photos))
    listing = time.perf_counter() - started
    config = ExtractConfig(engine=f"{__name__}:{MeanEngine.__name__}")
    _, figures = extract(dataset, CutSpec(BaseSpec(base)), Path(out), config)
    return {"listing": listing, "seconds": figures.seconds, "images": figures.forwarded}


def _row(count: int, name: str, runs: list[Run]) -> tuple[Cell, ...]:
    seconds = Spread.of(run.seconds for run in runs)
    per_image = ratio(seconds, Spread.of([count / 1e6]))
    return (
        f"{count:,}",
        name,
        seconds,
        reported(runs, "listing"),
        reported(runs, "seconds"),
        per_image,
        Spread.of(run.largest_mib for run in runs),
    )

"""What a cache costs as it grows: many tiny images and an engine that costs nothing."""

from __future__ import annotations

import functools
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Cell, Spread, Table, ratio
from benchmarks.fresh import Run, run_fresh
from benchmarks.photos import draw_tiny
from benchmarks.setup import Setup, finished, in_turn, reported, skips
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.engines import Engine
from fastcls.extraction.extractor import extract
from fastcls.extraction.planner import plan_extraction
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, TrainConfig

_COLUMNS = (
    "images",
    "step",
    "total seconds",
    "CPU seconds of the command itself",
    "microseconds per image",
    "MiB, largest process",
    "bytes per image",
)
_NOTES = (
    "8x8 PNG files, a thousand in a folder, two classes of such folders, and an engine that takes the mean "
    "color; the rest is what fastcls costs. Start-up is included; the head imports TensorFlow.",
    "Bytes per image: by how much the peak exceeds that at the count before, per image more.",
)


def measure(setup: Setup) -> list[Table]:
    """Each step at each count of images."""
    base = setup.folder / "mean.keras"
    run_fresh(make_base, path=str(base))
    rows, notes, before = [], list(_NOTES), dict.fromkeys(_STEPS, (0, 0.0))
    for count in sorted(setup.counts):
        photos = draw_tiny(setup.folder / f"tiny-{count}", count)
        options = {"photos": str(photos), "base": str(base), "out": str(setup.folder / f"cache-{count}")}
        for name, (step, is_repeated) in _STEPS.items():
            act = functools.partial(run_fresh, step, **options)
            runs = in_turn({f"{count} images, {name}": act}, setup.repeats if is_repeated else 1)
            notes += skips(runs)
            for tried in finished(runs).values():
                rows.append(_row(count, name, tried, before))
        shards = sum(1 for _ in (setup.folder / f"cache-{count}").glob("*/shards/*.h5"))
        notes.append(f"{count:,} images: {shards:,} shards")
        for made in (photos, setup.folder / f"cache-{count}"):
            shutil.rmtree(made)
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
    extract(Dataset.from_folder(Path(photos)), CutSpec(BaseSpec(base)), Path(out), _config())
    return {"cpu": time.process_time()}


def plan_mean(photos: str, base: str, out: str) -> dict[str, Any]:
    """List the images and say what an extraction into a new cache would do."""
    dataset = Dataset.from_folder(Path(photos))
    str(plan_extraction(dataset, [CutSpec(BaseSpec(base))], Path(f"{out}-new"), _config()))
    return {"cpu": time.process_time()}


def open_index(photos: str, base: str, out: str) -> dict[str, Any]:
    """Read which rows the cache has."""
    Cache.find(out).index()
    return {"cpu": time.process_time()}


def train_on_means(photos: str, base: str, out: str) -> dict[str, Any]:
    """Fit the head of `train-head --val 0.2`, without an output."""
    from fastcls.training.head_trainer import train_head  # the other steps do without

    train_head(Cache.find(out), config=TrainConfig(val=0.2))
    return {"cpu": time.process_time()}


# Of each step: what it does, and whether it can be repeated.
_STEPS = {
    "plan": (plan_mean, True),
    "extraction": (extract_mean, False),
    "again, nothing to do": (extract_mean, True),
    "index": (open_index, True),
    "head": (train_on_means, True),
}


def _config() -> ExtractConfig:
    return ExtractConfig(engine=f"{__name__}:{MeanEngine.__name__}")


def _row(count: int, name: str, runs: list[Run], before: dict[str, tuple[int, float]]) -> tuple[Cell, ...]:
    seconds = Spread.of(run.seconds for run in runs)
    memory = Spread.of(run.largest_mib for run in runs)
    known, mib = before[name]
    peak = memory.median if memory else 0.0
    before[name] = (count, peak)
    return (
        f"{count:,}",
        name,
        seconds,
        reported(runs, "cpu"),
        ratio(seconds, Spread.of([count / 1e6])),
        memory,
        (peak - mib) * 2**20 / (count - known) if known else None,
    )

"""What lower precisions cost in accuracy and gain in speed, on real photos and weights.

    python scripts/compare_precisions.py DATA --base NAME:WEIGHTS ... [--images 1000]

DATA has a folder per data set, and in each a folder per class. Every data set is forwarded in float32, in
bfloat16 throughout, in bfloat16 with the sensitive layers in float32, and in int8 as fastcls makes it.
A logistic regression learns from the bottlenecks of 60 % of the images; C is chosen on 20 % in float32;
the accuracy is that on the rest, mean and deviation of 5 splits. Speed is relative to bfloat16 throughout,
by CPU time of this process with one thread.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from fastcls.bases.loader import load_base
from fastcls.cache import checked_files
from fastcls.cutter import bottleneck_model, cut
from fastcls.data.decoder import Decoder, pixel_rule
from fastcls.engines import openvino
from fastcls.engines.openvino import Bfloat16Engine, Int8Engine, OpenVINOEngine
from fastcls.engines.trunk import Trunk
from fastcls.extraction.fidelity import compare, evenly_spaced, forward
from fastcls.specs import BaseSpec

SPLITS, CALIBRATED, COMPARED, TIMED, ROUNDS = 5, 96, 128, 64, 5
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 1.0)
HEADER = "| base | data | precision | accuracy | median error | smallest cosine | neighbors | speed |"
Run = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", action="append", required=True, help="NAME:WEIGHTS, or the path of a model")
    parser.add_argument("--images", type=int, default=10**9, help="of each data set")
    asked = parser.parse_args()
    print(HEADER, "|---" * 8 + "|", sep="\n", flush=True)
    for base in asked.base:
        for data in sorted(path for path in asked.data.iterdir() if path.is_dir()):
            for row in rows(base, data, asked.images):
                print(f"| {row} |", flush=True)


def rows(base: str, data: Path, count: int) -> Iterator[str]:
    """The rows of a base on a data set."""
    with tempfile.TemporaryDirectory() as folder:
        trunk, size, name = save_trunk(base, Path(folder))
        images, labels = read(data, size, count)
        runs = engines(trunk, images[evenly_spaced(len(images), CALIBRATED)])
        bottlenecks = {precision: forward(run, images) for precision, run in runs.items()}
        accuracy = accuracies(bottlenecks, labels)
        seconds = times(runs, images[:TIMED])
        some = evenly_spaced(len(images), COMPARED)
        for precision, found in bottlenecks.items():
            near = compare(found[some], bottlenecks["float32"][some])
            speed = np.median(np.array(seconds["bfloat16"]) / np.array(seconds[precision]))
            mean, deviation = np.mean(accuracy[precision]), np.std(accuracy[precision])
            cells = (name, data.name, precision, f"{mean:.3f} ± {deviation:.3f}", f"{near.median_error:.3f}")
            yield " | ".join((*cells, f"{near.smallest_cosine:.4f}", f"{near.neighbors:.3f}", f"{speed:.2f}"))


def save_trunk(base: str, folder: Path) -> tuple[Trunk, tuple[int, int], str]:
    """Save the trunk of a base; its image size, and what to call it."""
    name, _, weights = base.partition(":")
    made = load_base(BaseSpec(name, weights=weights or None, normalize=None if weights else "torch"))
    path, model = folder / "trunk.keras", bottleneck_model(cut(made, None))
    checked_files.keep(path, model.save, of="")
    return Trunk(path, model), made.size, Path(name).stem.partition("_")[0]


def read(data: Path, size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, 3) uint8, and the numbers of their classes."""
    paths = sorted(path for path in data.glob("*/*") if path.is_file())
    paths = [paths[place] for place in evenly_spaced(len(paths), count)]
    decoder = Decoder(pixel_rule(size))
    _, labels = np.unique([path.parent.name for path in paths], return_inverse=True)
    return np.stack([decoder.read(path) for path in paths]), labels


def engines(trunk: Trunk, calibration: np.ndarray) -> dict[str, Run]:
    """What runs the trunk in each precision, with one thread."""
    for engine in (OpenVINOEngine, Bfloat16Engine, Int8Engine):
        engine.prepare(trunk, lambda: calibration)
    rounded = openvino._compile_for(OpenVINOEngine.place(trunk.path), "bf16", 1)
    kept = len(Bfloat16Engine.float32_layers(trunk.path))
    return {
        "float32": OpenVINOEngine(trunk.path, 1).run,
        "bfloat16": lambda images: np.array(rounded(images)[0]),
        f"bfloat16, {kept} in float32": Bfloat16Engine(trunk.path, 1).run,
        "int8": Int8Engine(trunk.path, 1).run,
    }


def accuracies(bottlenecks: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, list[float]]:
    """The accuracy of each precision on each split."""
    found: dict[str, list[float]] = {precision: [] for precision in bottlenecks}
    for seed in range(SPLITS):
        train, rest = train_test_split(
            np.arange(len(labels)), train_size=0.6, random_state=seed, stratify=labels
        )
        val, test = train_test_split(rest, train_size=0.5, random_state=seed, stratify=labels[rest])
        exact = bottlenecks["float32"]
        best = max(
            STRENGTHS, key=lambda c: fit(exact[train], labels[train], c).score(exact[val], labels[val])
        )
        for precision, rows in bottlenecks.items():
            fitted = fit(rows[train], labels[train], best)
            found[precision].append(fitted.score(rows[test], labels[test]))
    return found


def fit(features: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    """A logistic regression, near enough to its optimum."""
    with warnings.catch_warnings(), threadpool_limits(1):  # more threads get in each other's way
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=100, tol=1e-3).fit(features, labels)


def times(runs: dict[str, Run], images: np.ndarray) -> dict[str, list[float]]:
    """CPU seconds that each precision takes for some images, in several rounds in turn."""
    found: dict[str, list[float]] = {precision: [] for precision in runs}
    for _ in range(ROUNDS + 1):
        for precision, run in runs.items():
            started = time.process_time()
            forward(run, images)
            found[precision].append(time.process_time() - started)
    return {precision: seconds[1:] for precision, seconds in found.items()}  # the first one warms up


if __name__ == "__main__":
    main()

"""Export small runs of many bases and heads to every format and precision, and tell what is verified.

    python scripts/verify_exports.py OUT [--data FOLDER] [--size PIXELS] [--quick] [--base BASE ...]

Each run is of 60 images: those of a folder per class, or drawn ones. Weights are random, with statistics of
these images, so that outputs depend on the image, but little is said of accuracy; others are taken from
OUT/BASE.weights.h5. With several labels, each image has its class, and every second one "second" too. OUT
keeps the runs and a line per row in rows.jsonl: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import fastcls
from fastcls.backend import import_keras
from fastcls.bases.normalize import normalize
from fastcls.data.decoder import Decoder, pixel_rule
from fastcls.errors import FastclsError
from fastcls.evaluation.text_table import format_table
from fastcls.exporting.documents import versions
from fastcls.exporting.exporter import Exported, export_planned
from fastcls.exporting.planner import plan_export
from fastcls.specs.exporting import FORMATS, ExportCheckSpec, ExportSpec

CUTS = {  # for the tail: a layer before the last ones
    "mobilenetv2": "block_15_add",
    "resnet50": "conv5_block2_out",
    "efficientnetb0": "block6d_add",
    "convnexttiny": "add_16",
    "resnext50": "layer4_1_out",
    "densenet121": "conv5_block15_concat",
    "squeezenet": "fire8_out",
    "lenet5": "s4",
}
HEADS = {
    "linear": ("--head", "linear"),
    "mlp": ("--head", "linear", "--layers", "32"),
    "logreg": ("--head", "logreg"),
    "prototype": ("--head", "prototype"),
    "knn": ("--head", "knn"),
    "tail": ("--head", "tail", "--epochs", "2"),
}
ONE_LABEL_ONLY = ("prototype", "knn")
QUICK = (("mobilenetv2", "linear"), ("lenet5", "knn"), ("squeezenet", "mlp"))
COLUMNS = ("base", "head", "labels", "format", "precision", "result")
IMAGES, CLASSES = 60, 3


def main() -> None:
    """Go through all combinations, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, help="A folder of photos per class.")
    parser.add_argument(
        "--size", type=int, help="Size of images: small ones take less time. [default: the base's own]"
    )
    parser.add_argument("--base", action="append", choices=CUTS, help="Only these bases.")
    parser.add_argument("--quick", action="store_true", help="Three pairs of base and head.")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    photos = _photos(asked.out / "photos", asked.data)
    table = asked.out / "rows.jsonl"
    done = [json.loads(line) for line in table.read_text().splitlines()] if table.exists() else []
    known = {tuple(row[:3]) for row in done}
    for base, head, labels in _combinations(asked.base, quick=asked.quick):
        if (base, head, labels) in known:
            continue
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # its memory ends with it
            rows = pool.submit(_rows, base, head, labels, photos, asked.out, asked.size).result()
        with table.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        done += rows
        print(f"{base} {head} {labels}: {sum('ok' in row[-1] for row in rows)} of {len(rows)} ok", flush=True)
    print(format_table([COLUMNS, *done]))
    print(", ".join(f"{name} {version}" for name, version in versions().items()))


def _combinations(bases: list[str] | None, *, quick: bool) -> Iterator[tuple[str, str, str]]:
    pairs = QUICK if quick else ((base, head) for head, base in itertools.product(HEADS, CUTS))
    for base, head in pairs:
        if bases and base not in bases:
            continue
        yield base, head, "one"
        if head not in ONE_LABEL_ONLY:
            yield base, head, "several"


def _rows(base: str, head: str, labels: str, photos: Path, out: Path, size: int | None) -> list[list[str]]:
    run = out / "runs" / f"{base}-{head}-{labels}"
    data = [str(photos)] if labels == "one" else [str(photos / "several.csv"), "--label-separator", "|"]
    cut = ["--cut", CUTS[base]] if head == "tail" else []
    weights = str(_weights(base, size, photos, out / f"{base}.weights.h5"))
    sized = ["--size", str(size)] if size else []
    of = ["--base", base, "--weights", weights, *sized, *cut, *HEADS[head]]
    place = [
        "--out",
        str(run),
        "--cache",
        str(out / "caches"),
        "--name",
        labels,
        "--test",
        "0.2",
        "--no-report",
    ]
    made = subprocess.run(
        [sys.executable, "-m", "fastcls", "run", *data, *of, *place], capture_output=True, text=True
    )
    if made.returncode:
        last = made.stderr.strip().splitlines()[-1:] or [""]
        return [[base, head, labels, "-", "-", f"no run: {last[0][:150]}"]]
    shutil.rmtree(run / "exports", ignore_errors=True)  # of a run that was interrupted
    specs = [ExportSpec(name, precision) for name, kind in FORMATS.items() for precision in kind.precisions]
    results = _results(run, specs)
    shutil.rmtree(run / "exports", ignore_errors=True)
    return [[base, head, labels, spec.format, spec.precision, results[spec]] for spec in specs]


def _results(run: Path, specs: list[ExportSpec]) -> dict[ExportSpec, str]:
    """What becomes of each. They are made together, so that the graph is, too, made once."""
    check = ExportCheckSpec()
    try:
        made = export_planned(plan_export(run, specs, check))
    except FastclsError as error:
        if len(specs) == 1:
            return {specs[0]: f"refused: {str(error)[:150]}"}
        return {spec: result for each in specs for spec, result in _results(run, [each]).items()}
    return {each.spec: _told(each) for each in made}


def _told(made: Exported) -> str:
    check: Any = made.check
    return f"{made.status} [{check['max_difference']:.1e}]" if check else made.status


def _weights(base: str, size: int | None, photos: Path, path: Path) -> Path:
    """Random weights under which outputs depend on the image.

    As they are initialized, deep networks give the same for all: batch norm knows no statistics, layer scales
    are next to 0, and kernels without either make outputs smaller from layer to layer.
    """
    if path.exists():
        return path
    keras = import_keras()
    keras.utils.set_random_seed(0)
    found = fastcls.load_base(base, weights="random", size=(size, size) if size else None)
    layers = found.model.layers
    has_statistics = any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # a batch in training mode replaces what it knew
        elif type(layer).__name__ == "LayerScale":
            layer.set_weights([np.ones_like(layer.get_weights()[0])])
        elif isinstance(layer, keras.layers.Conv2D) and not has_statistics:
            kernel, *bias = layer.get_weights()
            layer.set_weights([np.sqrt(2) * kernel, *bias])
    image = keras.Input((*found.size, 3), dtype="uint8")
    model = keras.Model(image, found.model(normalize(image, found.normalize)))
    decoder = Decoder(pixel_rule(found.size))
    model(np.stack([decoder.read(file) for file in sorted(photos.glob("*/*.jpg"))]), training=True)
    found.model.save_weights(path)
    return path


def _photos(folder: Path, given: Path | None) -> Path:
    """Copies of some images in a folder per class, and a table that gives them several labels."""
    table = folder / "several.csv"
    if table.exists():
        return folder
    random = np.random.default_rng(0)
    rows: list[tuple[str, str]] = []
    classes = sorted(path for path in given.iterdir() if path.is_dir())[:CLASSES] if given else []
    for label in range(CLASSES):
        name = classes[label].name if given else f"class-{label}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        found = sorted(classes[label].glob("*.jpg")) if given else []
        for number in range(IMAGES // CLASSES):
            place = folder / name / f"{number}.jpg"
            if given:
                shutil.copy(found[number], place)
            else:
                cv2.imwrite(str(place), _drawn(random, label))
            rows.append((f"{name}/{number}.jpg", f"{name}|second" if number % 2 else name))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "labels"), *rows])
    return folder


def _drawn(random: np.random.Generator, label: int) -> np.ndarray:
    """Stripes of one color, as wide as it pleases, with noise."""
    waves = np.sin(np.arange(200) / random.uniform(3, 20))[None, :, None] * random.uniform(20, 60, 3)
    image = np.broadcast_to(110 + waves, (160, 200, 3)) + random.normal(0, 15, (160, 200, 3))
    image[..., label] += 60
    return np.clip(image, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()

"""A classifier on each backend of Keras, on CPUs and GPUs: the same probabilities everywhere?

    python scripts/verify_backends.py runs/flowers/classifier.keras --photos photos
    python scripts/verify_backends.py classifier.keras --photos photos --on jax:cpu --on jax:gpu:mixed_float16

Each backend loads the file in a process of its own, with plain Keras: fastcls is not imported there. Prints,
as Markdown, the largest difference of a probability to the first backend, the photos that get another class,
and images/s of `predict_on_batch`, images as uint8 in the memory of the host.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from benchmarks.photos import list_photos

from fastcls.data.decoder import read_image

_BACKENDS = ("tensorflow", "jax", "torch")
_BATCH = 64


@click.command()
@click.argument("classifier", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--photos", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--images", type=click.IntRange(min=1), default=64, show_default=True, help="How many of them.")
@click.option(
    "--on",
    "places",
    multiple=True,
    help="BACKEND:cpu or BACKEND:gpu, :POLICY after it unless float32. By default all installed, on CPUs.",
)
def main(classifier: Path, photos: Path, images: int, places: tuple[str, ...]) -> None:
    """Compare the backends on CLASSIFIER, a file that fastcls has stitched."""
    places = places or tuple(f"{name}:cpu" for name in _BACKENDS if importlib.util.find_spec(name))
    first: np.ndarray | None = None
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels.npy"
        np.save(pixels, _read(photos, images))
        click.echo("| backend | largest difference | other class | images/s |\n|---|---|---|---|---|")
        for place in places:
            rows, rate, version = _forward(place, classifier, pixels)
            first = rows if first is None else first
            moved = np.count_nonzero(rows.argmax(axis=1) != first.argmax(axis=1))
            difference = f"{np.abs(rows - first).max():.1e} | {moved} of {len(rows)}"
            click.echo(f"| {place} ({version}) | {difference} | {rate:.1f} |")


def _read(photos: Path, count: int) -> np.ndarray:
    """Some photos (N, 224, 224, 3) uint8, evenly taken."""
    paths = list_photos(photos)
    some = paths[:: max(1, len(paths) // count)][:count]
    return np.stack([read_image(Path(path), (224, 224)) for path in some])


def _forward(place: str, classifier: Path, pixels: Path) -> tuple[np.ndarray, float, str]:
    """What a backend predicts (N, classes), its images/s and its version, in a process of its own."""
    backend, device, policy = (*place.split(":"), "float32")[:3]
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    made = pixels.with_name("rows.npy")
    command = [sys.executable, "-c", _ALONE, str(classifier), policy, str(pixels), str(made), str(_BATCH)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{place} failed:\n{done.stderr}")
    rate, version = done.stdout.split()[-2:]
    return np.load(made), float(rate), version


_ALONE = """
import importlib.metadata, os, sys, time
import keras, numpy as np

classifier, policy, pixels, made, batch = sys.argv[1:]
model = keras.saving.load_model(classifier)
if policy != "float32":
    def of_policy(operation):  # a layer, or a function of keras.ops, which has no policy
        own = {"dtype": policy} if isinstance(operation, keras.layers.Layer) else {}
        return type(operation).from_config({**operation.get_config(), **own})
    exact, model = model, keras.models.clone_model(model, clone_function=of_policy)
    model.set_weights(exact.get_weights())
images = np.load(pixels)
np.save(made, np.asarray(model.predict(images, batch_size=int(batch), verbose=0), np.float32))
full = np.resize(images, (int(batch), *images.shape[1:]))
model.predict_on_batch(full)
calls, started = 0, time.perf_counter()
while time.perf_counter() - started < 3:
    model.predict_on_batch(full)
    calls += 1
name = keras.backend.backend()
print(calls * len(full) / (time.perf_counter() - started), importlib.metadata.version(name))
"""


if __name__ == "__main__":
    main()

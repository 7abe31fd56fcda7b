"""A small data set, a base and everything that commands make of them, in one folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sklearn.datasets

from campaigns import forks, processes

CLASSES = ("china", "digit", "flower")
PER_CLASS = 12
BASE = "--base base.keras --precision float32 --batch-size 4 --shard-size 8"
STOPPED = "train-head vectors --out stopped --epochs 20 --layers 8,0.3 --checkpoint-every 1"
_READY = ".ready"

# What is made by commands: one after the other, each from what is there before it.
_STEPS = (
    "to-csv photos --out photos.csv --val 0.2 --test 0.2",
    "to-tfrecord photos.csv --out packed --shards 2",
    "split-data photos --out data",
    "split-data labels.csv --label-separator | --image-root photos --out tagged",
    f"extract data {BASE} --cache vectors --workers 1",
    f"extract data {BASE} --cut early --views 2 --cache maps --compress --workers 1",
    f"extract data {BASE} --cut late --pool avg --cache others --workers 1",
    "train-head vectors --out run --epochs 4 --layers 8,0.3 --checkpoint-every 2",
    "train-head others --out rival --epochs 4 --layers 8 --checkpoint-every 2",
    "train-head maps --out tail --head tail --epochs 2",
    "train-head vectors --out neighbors --head knn",
    "finetune data --from run --out fine --epochs 1 --batch-size 8",
)


def prepare(folder: Path) -> Path:
    """Make the material in a folder, unless it is there.

    Raises:
        RuntimeError: A command failed.
    """
    if (folder / _READY).exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_photos(folder / "photos")
    write_photos(folder / "extra", seed=1)
    write_labels(folder)
    _require(forks.run(_write_models, folder), "the models")
    for step in _STEPS:
        _require(forks.run_command(step.split(), folder), step)
    _leave_split_unfinished(folder)
    _leave_training_unfinished(folder)
    (folder / _READY).touch()
    return folder


def write_photos(root: Path, seed: int = 0) -> None:
    """Crops of scikit-learn's two photos and some of its digits; one JPEG is truncated."""
    random = np.random.default_rng(seed)
    originals = Path(sklearn.datasets.__file__).parent / "images"
    for name in ("china", "flower"):
        photo = np.asarray(cv2.imread(str(originals / f"{name}.jpg")))
        for number in range(PER_CLASS):
            top, left = random.integers(0, photo.shape[0] - 48), random.integers(0, photo.shape[1] - 64)
            _write(root / name / f"{number:02}.jpg", ".jpg", photo[top : top + 48, left : left + 64])
    digits = sklearn.datasets.load_digits().images[seed * PER_CLASS :][:PER_CLASS]
    for number, digit in enumerate(digits):
        _write(root / "digit" / f"{number:02}.png", ".png", (digit * 15).astype(np.uint8))
    broken = root / "china" / "00.jpg"
    broken.write_bytes(broken.read_bytes()[:300])


def write_labels(folder: Path) -> None:
    """Several labels for the same photos: the class, and whether the number is even."""
    lines = ["path,label"]
    for path in sorted((folder / "photos").rglob("*.*")):
        even = "|even" if int(path.stem) % 2 == 0 else ""
        lines.append(f"{path.relative_to(folder / 'photos').as_posix()},{path.parent.name}{even}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def copy(material: Path, names: Sequence[str], folder: Path) -> Path:
    """Put copies of some of the material into a new folder."""
    folder.mkdir(parents=True)
    for name in names:
        source = material / name
        place: Callable[..., Any] = shutil.copytree if source.is_dir() else shutil.copy2
        place(source, folder / name)
    return folder


def _leave_split_unfinished(folder: Path) -> None:
    """As split-data leaves it that was killed: the plan is there, and some of the files."""
    half = shutil.copytree(folder / "data", folder / "half")
    (half / "split.csv").rename(half / ".split-plan.csv")
    for path in sorted(half.rglob("*.png"))[::2]:
        path.unlink()


def _leave_training_unfinished(folder: Path) -> None:
    """As train-head leaves it that was killed after two epochs at least."""
    while not (folder / "stopped.unfinished").exists():
        process = processes.Process(STOPPED.split(), folder)
        while process.is_running and not list(folder.glob("stopped.unfinished/resume/epoch-0002*")):
            time.sleep(0.002)
        process.kill()
        shutil.rmtree(folder / "stopped", ignore_errors=True)


def _write(path: Path, suffix: str, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())


def _write_models() -> None:
    """Bases as `.keras`, `.h5` and SavedModel, weights as `.weights.h5`, `.safetensors`."""
    import keras
    import tf_keras

    model = _base(keras)
    model.save("base.keras")
    model.save("base.h5")
    _base(tf_keras).save("saved", save_format="tf")
    _write_lenet(keras)


def _base(keras: Any) -> Any:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = layers.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="early")(x)
    x = layers.Conv2D(8, 3, activation="relu", name="late")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="top")(x))


def _write_lenet(keras: Any) -> None:
    """A state dict of LeNet-5, named as torch's users name it, and the same as a weights file."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"c1": (6, 3, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5)}
    shapes |= {"f6": (84, 120), "output": (10, 84)}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = random.normal(0, 0.1, shape).astype(np.float32)
        state[f"{name}.bias"] = random.normal(0, 0.1, shape[:1]).astype(np.float32)
    save_file(state, "lenet.safetensors")
    from fastcls.bases.torch_weights import import_weights

    import_weights("lenet5", Path("lenet.safetensors"), Path("lenet.weights.h5"))


def _require(ended: forks.Ended, what: str) -> None:
    if ended.code:
        raise RuntimeError(f"{what} failed:\n{ended.tail}")

"""A small data set, a base, and what commands make of them: each made when it is first needed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sklearn.datasets

from campaigns import forks, processes

PER_CLASS = 12
BASE = "--base base.keras --precision float32 --batch-size 4 --shard-size 8"
STOPPED = "train-head vectors --out stopped --epochs 20 --layers 8,0.3 --checkpoint-every 1"


@dataclass(frozen=True)
class Material:
    """What is tried on, and the place where it is made and where copies of it are laid out.

    It is one place, as tables hold absolute paths.

    Attributes:
        folder: Holds both; what an earlier campaign has made there is taken as it is.
    """

    folder: Path

    @property
    def whole(self) -> Path:
        """What has been made; only read."""
        return self.folder / "whole"

    @property
    def stage(self) -> Path:
        """Where commands work on copies."""
        return self.folder / "stage"

    def lay_out(self, names: Sequence[str]) -> Path:
        """Clear the stage and put copies of some of the material there.

        Raises:
            RuntimeError: A command failed that makes some of it.
        """
        for name in names:
            self.require(name)
        shutil.rmtree(self.stage, ignore_errors=True)
        self.stage.mkdir(parents=True)
        for name in names:
            source = self.whole / name
            place: Callable[..., Any] = shutil.copytree if source.is_dir() else shutil.copy2
            place(source, self.stage / name)
        return self.stage

    def require(self, name: str) -> None:
        """Make some of it, and what it is made from, if that has not been done.

        Raises:
            RuntimeError: A command failed.
        """
        if not (self.whole / name).exists():
            recipe = _RECIPES[name]
            recipe.make(self.lay_out(recipe.needs))
            self.whole.mkdir(parents=True, exist_ok=True)
            (self.stage / name).rename(self.whole / name)


@dataclass(frozen=True)
class _Recipe:
    """How some of the material is made.

    Attributes:
        make: What makes it in the folder that it gets.
        needs: What must be there.
    """

    make: Callable[[Path], Any]
    needs: tuple[str, ...] = ()


def _command(arguments: str, *needs: str) -> _Recipe:
    def make(folder: Path) -> None:
        _require_end(forks.run_command(arguments.split(), folder), arguments)

    return _Recipe(make, needs)


def _in_fork(function: Callable[[], Any], *needs: str) -> _Recipe:
    """Keras is used in forks alone."""

    def make(folder: Path) -> None:
        _require_end(forks.run(function, folder), repr(function))

    return _Recipe(make, needs)


def _require_end(ended: forks.Ended, what: str) -> None:
    if ended.code:
        raise RuntimeError(f"{what} failed:\n{ended.tail}")


def _write_photos(folder: Path, name: str, seed: int) -> None:
    """Crops of scikit-learn's two photos and some of its digits; one JPEG is truncated."""
    root, random = folder / name, np.random.default_rng(seed)
    originals = Path(sklearn.datasets.__file__).parent / "images"
    for kind in ("china", "flower"):
        photo = np.asarray(cv2.imread(str(originals / f"{kind}.jpg")))
        for number in range(PER_CLASS):
            top, left = random.integers(0, photo.shape[0] - 48), random.integers(0, photo.shape[1] - 64)
            _write(root / kind / f"{number:02}.jpg", ".jpg", photo[top : top + 48, left : left + 64])
    digits = sklearn.datasets.load_digits().images[seed * PER_CLASS :][:PER_CLASS]
    for number, digit in enumerate(digits):
        _write(root / "digit" / f"{number:02}.png", ".png", (digit * 15).astype(np.uint8))
    broken = root / "china" / "00.jpg"
    broken.write_bytes(broken.read_bytes()[:300])


def _write_labels(folder: Path) -> None:
    """Several labels for the same photos: the class, and whether the number is even."""
    lines = ["path,label"]
    for path in sorted((folder / "photos").rglob("*.*")):
        even = "|even" if int(path.stem) % 2 == 0 else ""
        lines.append(f"{path.relative_to(folder / 'photos').as_posix()},{path.parent.name}{even}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


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


def _write_base(path: str) -> None:
    import keras

    _base(keras).save(path)


def _write_saved() -> None:
    import tf_keras

    _base(tf_keras).save("saved", save_format="tf")


def _base(keras: Any) -> Any:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = layers.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="early")(x)
    x = layers.Conv2D(8, 3, activation="relu", name="late")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="top")(x))


def _write_lenet() -> None:
    """A state dict of LeNet-5, named as users of torch name it."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"c1": (6, 3, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5)}
    shapes |= {"f6": (84, 120), "output": (10, 84)}
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = random.normal(0, 0.1, shape).astype(np.float32)
        state[f"{name}.bias"] = random.normal(0, 0.1, shape[:1]).astype(np.float32)
    save_file(state, "lenet.safetensors")


_LABELS = "split-data labels.csv --label-separator | --image-root photos --out"
_TRAIN = "train-head vectors --out"
_RECIPES = {
    "photos": _Recipe(partial(_write_photos, name="photos", seed=0)),
    "extra": _Recipe(partial(_write_photos, name="extra", seed=1)),
    "labels.csv": _Recipe(_write_labels, ("photos",)),
    "photos.csv": _command("to-csv photos --out photos.csv --val 0.2 --test 0.2", "photos"),
    "packed": _command("to-tfrecord photos.csv --out packed --shards 2", "photos", "photos.csv"),
    "data": _command("split-data photos --out data", "photos"),
    "half": _Recipe(_leave_split_unfinished, ("data",)),
    "tagged": _command(f"{_LABELS} tagged", "photos", "labels.csv"),
    "base.keras": _in_fork(partial(_write_base, "base.keras")),
    "base.h5": _in_fork(partial(_write_base, "base.h5")),
    "saved": _in_fork(_write_saved),
    "lenet.safetensors": _in_fork(_write_lenet),
    "lenet.weights.h5": _command(
        "import-weights lenet5 lenet.safetensors --out lenet.weights.h5", "lenet.safetensors"
    ),
    "vectors": _command(f"extract data {BASE} --cache vectors --workers 1", "data", "base.keras"),
    "maps": _command(
        f"extract data {BASE} --cut early --views 2 --cache maps --compress --workers 1",
        *("data", "base.keras"),
    ),
    "others": _command(
        f"extract data {BASE} --cut late --pool avg --cache others --workers 1", "data", "base.keras"
    ),
    "run": _command(f"{_TRAIN} run --epochs 4 --layers 8,0.3 --checkpoint-every 2", "vectors", "data"),
    "rival": _command(f"{_TRAIN} rival --epochs 3 --layers 8 --checkpoint-every 1", "vectors", "data"),
    "tail": _command("train-head maps --out tail --head tail --epochs 2", "maps", "data"),
    "stopped.unfinished": _Recipe(_leave_training_unfinished, ("vectors", "data")),
}

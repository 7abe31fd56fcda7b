"""Photos, a base, and the command line as a user meets it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_support import write_clip

from fastcls import pipeline
from fastcls.backend import import_keras
from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig, TrainConfig

CLASSES = ("blue", "green", "red")


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Trained:
    """A cache and a run."""

    cache: Cache
    run: Path


Fastcls = Callable[..., Result]


def require_known_options(arguments: list[str], text: str) -> None:
    """An error names options of its own command, or of others that it names as `fastcls COMMAND`."""
    from fastcls.cli.main import cli

    known = {
        name: {
            flag
            for each in (command, *getattr(command, "commands", {}).values())
            for parameter in each.params
            for flag in (*parameter.opts, *parameter.secondary_opts)
        }
        for name, command in cli.commands.items()
    }
    own = next((each for each in arguments if each in known), "")
    for line in text.splitlines():
        if not own or not line.startswith("Error: ") or "No such option" in line:
            continue
        named = {own, *re.findall(r"fastcls ([a-z-]+)", line)} & {*known}
        flags = {"--help"}.union(*(known[name] for name in named))
        # But those of an earlier command, which differs.
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]+(?![\w-]| was )", line)
        assert {*options} <= flags, (options, line)


@pytest.fixture
def fastcls(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Fastcls:
    """Runs the command line in this process; `run` without the report that it ends with, unless asked."""
    from fastcls.cli.main import main

    def run(*arguments: object, report: bool = False) -> Result:
        if arguments[0] == "run" and not report:
            arguments = (*arguments, "--no-report")
        monkeypatch.setattr(sys, "argv", ["fastcls", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        require_known_options(list(map(str, arguments)), captured.err)
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A video of six frames: two blue, two green, two red."""
    return write_clip(tmp_path / "clip.avi")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty noisy pictures of each of three colors."""
    root = tmp_path_factory.mktemp("data") / "photos"
    random = np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(20):
            image = random.integers(0, 120, (24, 30, 3), np.uint8)
            image[..., channel] += 60  # OpenCV writes BGR: blue, green, red
            cv2.imwrite(str(root / name / f"{number}.png"), image)
    return root


@pytest.fixture(scope="session")
def trained(photos: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A cache of the photos, the same on every machine, and a run trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    result = pipeline.run(
        Dataset.from_folder(photos),
        CutSpec(BaseSpec(str(base)), precision="float32"),
        folder / "run",
        config=TrainConfig(learning_rate=0.05),
        cache_root=folder / "caches",
        extraction=ExtractConfig(executor="inline"),
    )
    return Trained(result.cache, folder / "run")


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved Keras model that normalizes by itself and ends with a classifier."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    path = tmp_path_factory.mktemp("base") / "tiny.keras"
    model.save(path)
    return path

"""Try every engine in every precision on a tiny trunk: which of them work on this machine.

The trials run in a process of their own, so that an engine that crashes is a line in the result.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import processes
from fastcls.backend import import_keras
from fastcls.cache import checked_files
from fastcls.engines import engine_class, engines_of
from fastcls.engines.trunk import Trunk
from fastcls.specs import ENGINES, PRECISIONS

_TIMEOUT_S = 120
_TOLERANCE = 0.1  # of the largest value; int8 comes to 0.01 on this trunk


@dataclass(frozen=True)
class Trial:
    """One engine in one precision.

    Attributes:
        engine: Its name.
        precision: What it was to compute in.
        obstacle: Why it does not work here, on one line; "" where it does.
    """

    engine: str
    precision: str
    obstacle: str = ""


def every_pair() -> list[tuple[str, str]]:
    """Each engine with each precision that it knows, the most exact precision first."""
    return [(engine, precision) for precision in PRECISIONS for engine in engines_of(precision)]


def try_engines() -> tuple[list[Trial], list[str]]:
    """Try all engines.

    Returns:
        The trials, and the GPUs that TensorFlow sees.
    """
    pending = every_pair()
    trials: list[Trial] = []
    gpus: list[str] = []
    while pending:
        told, end = _run(pending)
        if not told:  # TensorFlow itself ends the process
            return trials + [Trial(*pair, end) for pair in pending], gpus
        gpus, *obstacles = told
        trials += [Trial(*pair, obstacle) for pair, obstacle in zip(pending, obstacles, strict=False)]
        pending = pending[len(obstacles) :]
        if pending:  # the next one has ended the process
            trials.append(Trial(*pending.pop(0), end))
    return trials, gpus


def _run(pairs: list[tuple[str, str]]) -> tuple[list[Any], str]:
    """Try some pairs in a process: what it told before it ended, and how it ended."""
    with tempfile.TemporaryFile("w+") as told:
        try:
            ended = subprocess.run(
                processes.command(__name__, str(told.fileno()), json.dumps(pairs)),
                pass_fds=(told.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=processes.environment(),
                timeout=_TIMEOUT_S,
            )
            end = f"the process that tried it {_in_words(ended.returncode)}"
        except subprocess.TimeoutExpired:
            end = f"it did not answer within {_TIMEOUT_S} seconds"
        told.seek(0)
        return [json.loads(line) for line in told], end


def _in_words(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def main() -> None:
    """In the process of the trials: tell the GPUs, then what stands against each pair, a line each."""
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as told, tempfile.TemporaryDirectory() as folder:
        for answer in _answers(json.loads(sys.argv[2]), Path(folder)):
            told.write(json.dumps(answer) + "\n")


def _answers(pairs: list[tuple[str, str]], folder: Path) -> Iterator[Any]:
    obstacle = _obstacle(import_keras)
    yield [] if obstacle else _gpus()
    if obstacle:
        yield from [obstacle] * len(pairs)
        return
    trunk = _make_trunk(folder / "trunk.keras")
    for engine, precision in pairs:
        yield _obstacle(_forward, engine, precision, trunk)


def _obstacle(function: Callable[..., Any], *arguments: Any) -> str:
    """What a call raises, on one line; "" for nothing."""
    try:
        function(*arguments)
    except Exception as error:  # whatever an engine raises is what the report is for
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _gpus() -> list[str]:
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [
        f"{detail.get('device_name', 'GPU')}, compute capability "
        + ".".join(map(str, detail.get("compute_capability", ("unknown",))))
        for detail in details
    ]


def _make_trunk(path: Path) -> Trunk:
    keras = import_keras()
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    checked_files.keep(path, model.save, of="")
    return Trunk(path, model)


def _forward(engine: str, precision: str, trunk: Trunk) -> None:
    """Forward images as an extraction does; raises if that fails, or gives other values than Keras does."""
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    kind = engine_class(ENGINES[engine][precision])
    kind.require()
    kind.prepare(trunk, lambda: images)
    rows, reference = kind(trunk.path, 1).run(images), trunk.run(images)
    error = float(np.abs(rows - reference).max() / np.abs(reference).max())
    if not error <= _TOLERANCE:
        raise ArithmeticError(f"its output is off by {error:.0%} of the largest value")

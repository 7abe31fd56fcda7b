"""Where a training stands, as a file: to use it, and to go on exactly.

A snapshot is a `.keras` file, which plain Keras loads, with more members in the same zip archive:

    fastcls/state.json    the rows of the epochs so far, and what the training says of itself
    fastcls/KIND/N.npy    what else decides the next step: the states of random layers ("random"), the
                          optimizer's variables, the weights of the best epoch if they are others ("best");
                          within an epoch also those of the metrics, and what was seen of each step ("seen")
    fastcls.json          what makes the model a classifier of images, if it is one

It knows Keras models and optimizers, not heads.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np

from fastcls import archives, files
from fastcls.backend import computing_in
from fastcls.errors import OptionError
from fastcls.records import Count, made

Row = dict[str, float]
VERSION = 3
_STATE = "fastcls/state.json"
_CLASSIFIER = "fastcls.json"  # where `Classifier.load` looks


@dataclass
class Begun:
    """How far an epoch has come.

    Attributes:
        steps: How many are done.
        finite: How many of these had a finite loss.
        rate: Learning rate of its first step; None before that.
        seconds: How long it has taken.
        figures: Its metrics, once all steps are done.
        seen: Loss and learning rate of each step, where someone listens.
        metrics: Variables of the metrics, if it is gone on with and steps are left.
    """

    steps: int = 0
    finite: int = 0
    rate: float | None = None
    seconds: float = 0.0
    figures: Row | None = None
    seen: list[tuple[float, float]] = field(default_factory=list)
    metrics: list[np.ndarray] = field(default_factory=list)


@dataclass
class Standing:
    """Where a training stands.

    Attributes:
        history: A row per epoch so far.
        best: The one whose weights are to be the result; None without validation.
        weights: Its weights; None if they are those that the model has.
        begun: The epoch after these, as far as it has come.
    """

    history: list[Row] = field(default_factory=list)
    best: Row | None = None
    weights: list[np.ndarray] | None = None
    begun: Begun = field(default_factory=Begun)


class Resumable(Protocol):
    """What has a state of its own from epoch to epoch, such as a schedule."""

    def get_state(self) -> dict[str, Any]:
        """The state as JSON-able values."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""


@dataclass(frozen=True)
class Trainee:
    """What changes while it is trained.

    Attributes:
        model: Compiled functional Keras model with one input and one output.
        schedule: Lowers the learning rate.
    """

    model: Any
    schedule: Resumable

    @cached_property
    def plain(self) -> Any:
        """The same layers as a model that is not compiled: what is saved, and loads everywhere."""
        import keras

        return keras.Model(self.model.inputs[0], self.model.outputs[0])

    @property
    def mixed_layers(self) -> list[Any]:
        """The layers that compute in mixed precision."""
        return [layer for layer in self.model.layers if layer.dtype_policy.name.startswith("mixed_")]

    @property
    def random_states(self) -> list[Any]:
        """The variables that are no weights: how far the random numbers of each dropout have come."""
        weights = {id(variable) for variable in self.model.weights}
        return [variable for variable in self.model.variables if id(variable) not in weights]


class _State(TypedDict):
    version: int
    identity: dict[str, Any]
    history: list[dict[str, float]]
    best_epoch: Count
    schedule: dict[str, Any]
    begun: dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """A file that was read and found whole.

    Attributes:
        path: The file.
        state: Its state.json.
    """

    path: Path
    state: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """Check a file and read its state.

        Raises:
            OptionError: It is damaged, or no snapshot.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"{damaged} is not what was written")
                state = archives.read_json(archive, _STATE)
            _check(state)
        except Exception as error:  # zipfile fails on a damaged file anywhere
            raise OptionError(f"{path} is not a fastcls checkpoint, or damaged: {error}") from error
        return cls(path, state)

    def restore(self, trainee: Trainee) -> Standing:
        """Put model, optimizer and schedule where they were."""
        model, optimizer = trainee.model, trainee.model.optimizer
        trainee.plain.load_weights(self.path)
        if not optimizer.built:
            optimizer.build(model.trainable_variables)
        _assign(trainee.random_states, self._arrays("random"))
        _assign(optimizer.variables, self._arrays("optimizer"))
        trainee.schedule.set_state(self.state["schedule"])
        history, best = self.state["history"], self.state["best_epoch"]
        seen = [(loss, rate) for array in self._arrays("seen") for loss, rate in array.tolist()]
        begun = Begun(**self.state["begun"], seen=seen, metrics=self._arrays("metrics"))
        return Standing(history, history[best - 1] if best else None, self._arrays("best") or None, begun)

    def _arrays(self, kind: str) -> list[np.ndarray]:
        with zipfile.ZipFile(self.path) as archive:
            names = [name for name in archive.namelist() if name.startswith(f"fastcls/{kind}/")]
            return [_read_array(archive, name) for name in names]


def _check(state: Any) -> None:
    if state["version"] != VERSION:
        raise ValueError(f"it has version {state['version']}, this fastcls reads {VERSION}")
    if made(_State, state)["best_epoch"] > len(state["history"]):
        raise ValueError(f"its best epoch is {state['best_epoch']}, after {len(state['history'])} epochs")


def write_snapshot(path: Path, standing: Standing, trainee: Trainee, about: Mapping[str, Any]) -> None:
    """Write where a training stands.

    Args:
        path: A `.keras` file, which appears whole.
        standing: The epochs so far, and the one that is begun.
        trainee: What was trained.
        about: More for state.json. What it has as "classifier" goes to fastcls.json instead.
    """
    about = dict(about)
    classifier = about.pop("classifier", None)
    optimizer = trainee.model.optimizer.variables
    kinds = {"random": _values(trainee.random_states), "optimizer": _values(optimizer)}
    begun = standing.begun
    if begun.steps or standing.best is not standing.history[-1]:
        kinds["best"] = standing.weights or []
    if begun.steps and not begun.figures:
        kinds["metrics"] = _values(trainee.model.metrics_variables)
    if begun.seen:
        kinds["seen"] = [np.array(begun.seen)]
    told = {name: value for name, value in vars(begun).items() if name not in ("seen", "metrics")}
    state = {
        **about,
        "version": VERSION,
        "history": standing.history,
        "best_epoch": standing.best["epoch"] if standing.best else 0,
        "begun": told,
        "schedule": trainee.schedule.get_state(),
    }
    with files.atomic_path(path) as temporary:
        # What is trained in mixed precision is used in that of its weights.
        with computing_in("float32", trainee.mixed_layers):
            trainee.plain.save(temporary)
        with archives.extended(temporary) as archive:
            archive.writestr(_STATE, json.dumps(state))
            if classifier:
                archive.writestr(_CLASSIFIER, json.dumps(classifier))
            for kind, values in kinds.items():
                for number, value in enumerate(values):
                    _write_array(archive, f"fastcls/{kind}/{number}.npy", value)


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(variable.numpy()) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _write_array(archive: zipfile.ZipFile, name: str, value: np.ndarray) -> None:
    with archive.open(name, "w", force_zip64=True) as member:  # its size is not known beforehand
        np.lib.format.write_array(member, value, allow_pickle=False)


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)

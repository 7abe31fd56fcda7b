"""Read a trained head back, from a run or from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from fastcls import runs
from fastcls.backend import import_keras, reproducible_build
from fastcls.errors import OptionError
from fastcls.runs import Run
from fastcls.specs import HeadSpec, TrainConfig, ViewSpec
from fastcls.tasks import task_named
from fastcls.training.head_trainer import TrainedHead
from fastcls.training.loop.snapshots import Snapshot
from fastcls.used_images import UNKNOWN


def load_head(place: Path) -> TrainedHead:
    """The trained head of a run folder, or of a checkpoint that was kept in one.

    Raises:
        OptionError: It is neither, or damaged.
    """
    if place.is_file():
        file, known, run = place, _read_checkpoint(place), Run.of(place)
    else:
        run = _open_run(place)
        file, known = run.file(runs.HEAD), {**run.record, **run.resolved}
    used = run.used if run else UNKNOWN
    keras = import_keras()
    try:
        with reproducible_build():  # a file has no seeds of its dropouts
            model = keras.saving.load_model(file, compile=False)
        spec, config = _head(known["head"]), TrainConfig(**known["training"])
        figures = (known["figures"], known["train_count"], known["val_count"])
        thresholds = tuple(known["thresholds"]) if known.get("thresholds") else None
        task = task_named(known.get("task"))
        return TrainedHead(
            *(model, spec, config, tuple(known["class_names"]), (), *figures, thresholds, task),
            used=used,
            views=ViewSpec(**known["views"]),
        )
    except Exception as error:  # Keras fails on a damaged file anywhere
        raise OptionError(f"{file} is damaged: {type(error).__name__}: {error}") from error


def head_spec(run: Run) -> HeadSpec:
    """What the head of a run is made of."""
    return _head(run.resolved["head"])


def _head(described: Mapping[str, Any]) -> HeadSpec:
    """The head of a description that tells more of it: see `training.identity`."""
    return HeadSpec(
        **{each.name: described[each.name] for each in fields(HeadSpec) if each.name in described}
    )


def _open_run(folder: Path) -> Run:
    if not (folder / runs.RECORD).is_file() or not (folder / runs.HEAD).is_file():
        raise OptionError(f"{folder} is not a run folder made by `fastcls train-head`")
    return Run.open(folder)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    state = Snapshot.read(path).state
    if "head" not in state["identity"]:
        raise OptionError(f"{path} is a checkpoint of a whole network, not of a head on bottlenecks")
    try:
        # Thresholds are chosen for the finished head alone.
        thresholds = task_named(state["task"]).default_thresholds(len(state["class_names"]))
        return {**state["identity"], **state, "figures": state["history"][-1], "thresholds": thresholds}
    except (LookupError, TypeError, ValueError) as error:
        raise OptionError(f"{path} is damaged: its state lacks {error}") from error

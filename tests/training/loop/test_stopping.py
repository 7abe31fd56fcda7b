"""A training that is stopped between any two steps, however often, ends as if it had not been."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fastcls import interrupts
from fastcls.backend import import_keras
from fastcls.data.dataset import Dataset
from fastcls.interrupts import Stopped
from fastcls.specs import (
    BaseSpec,
    CheckpointSpec,
    FinetuneSpec,
    HeadSpec,
    LogSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainConfig,
)
from fastcls.training.finetuner import finetune
from fastcls.training.head_trainer import train_head
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.rows import cached as feeder

CONFIG = TrainConfig(
    epochs=4,
    batch_size=32,
    learning_rate=0.2,
    schedule=ScheduleSpec("plateau", rate_factor=0.5, rate_patience=1),
    logs=LogSpec(log_steps=1),
)
SGD = replace(CONFIG, optimizer=OptimizerSpec("SGD", momentum=0.9), schedule=ScheduleSpec("cosine", warmup=1))


@pytest.fixture
def heads(make_cache, monkeypatch):
    """Returns a function that trains a head of 140 rows with a dropout, streamed in blocks of two steps."""
    cache, _, _ = make_cache(200, spread=0.3)
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 64)
    monkeypatch.setattr(feeder, "_RUN_BYTES", 64 * 5)
    monkeypatch.setattr(feeder, "allowed_memory", lambda: 0)
    return lambda config, folder: train_head(cache, HeadSpec("linear", (16, 0.5)), config, folder=folder)


@pytest.fixture
def networks(tmp_path):
    """Returns a function that trains a network with a dropout and batch normalization on 18 photos."""
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, strides=2)(image)
    x = layers.Dropout(0.3)(layers.BatchNormalization()(x))
    keras.Model(image, layers.Conv2D(8, 3)(layers.ReLU()(x))).save(tmp_path / "base.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3)).astype(np.uint8)
    for number, picture in enumerate(pixels):
        place = tmp_path / "photos" / ("dark" if number % 2 else "light")
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number:02}.png"), picture // (1 + number % 2))
    data, base = Dataset.open(tmp_path / "photos"), BaseSpec(str(tmp_path / "base.keras"), normalize="tf")

    def train(config, folder):
        spec = FinetuneSpec(augment="flip", mixed_precision="float32", train_batch_norm=True)
        return finetune(data, base, spec, replace(config, batch_size=5, val=0.25), folder=folder)

    return train


@pytest.mark.parametrize("config", [CONFIG, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("kind", ["heads", "networks"])
def test_a_training_stopped_at_any_safe_points_ends_as_if_it_had_not_been(
    request, monkeypatch, tmp_path, caplog, kind, config
):
    train = request.getfixturevalue(kind)
    whole, points = count_safe_points(monkeypatch, lambda: train(config, tmp_path / "whole"))
    gone = iter([3, 1, 6])
    stops = 0
    for stop in itertools.chain(gone, itertools.repeat(points)):
        with monkeypatch.context() as patch:
            press_at(patch, stop)
            try:
                resumed = train(config, tmp_path / "stopped")
                break
            except Stopped as stopped:
                stops += 1
                assert stopped.saved
    assert stops == 3 and caplog.text.count("Resuming after step") >= 2
    assert_same(whole, resumed)
    for name in ("history.csv", "steps.csv"):
        assert table(tmp_path / "stopped" / name) == table(tmp_path / "whole" / name)


def test_a_stopped_training_that_is_killed_later_goes_on_as_well(heads, monkeypatch, tmp_path):
    whole = heads(CONFIG, tmp_path / "whole")
    each = CheckpointSpec(checkpoint_every=1)
    for config in (CONFIG, replace(CONFIG, checkpoints=each)):
        folder = tmp_path / str(config.checkpoints.checkpoint_every)
        with pytest.raises(Stopped), monkeypatch.context() as patch:
            press_at(patch, 2)
            heads(config, folder)
        with pytest.raises(ZeroDivisionError), monkeypatch.context() as patch:
            kill_at(patch, 2)
            heads(config, folder)
        assert_same(whole, heads(config, folder))


def test_a_stopped_training_saves_nothing_where_it_has_no_folder_or_is_not_to(heads, monkeypatch, tmp_path):
    none = replace(CONFIG, checkpoints=CheckpointSpec(checkpoint_every=0))
    for config, folder in ((CONFIG, None), (none, tmp_path / "run")):
        with pytest.raises(Stopped) as ended, monkeypatch.context() as patch:
            press_at(patch, 3)
            heads(config, folder)
        assert not ended.value.saved
    assert not list(tmp_path.rglob("stopped*"))


def press_at(patch, place: int) -> None:
    """Let the signal come before a safe point, counted from 1."""
    count = itertools.count(1)

    def let_through():
        if next(count) == place:
            raise Stopped

    patch.setattr(interrupts, "let_through", let_through)


def count_safe_points(monkeypatch, train):
    """What is trained, and how many safe points are passed."""
    passed = []
    with monkeypatch.context() as patch:
        patch.setattr(interrupts, "let_through", lambda: passed.append(1))
        return train(), len(passed)


def kill_at(patch, epoch: int) -> None:
    save = Checkpoints.save

    def kill(self, standing, trainee):
        save(self, standing, trainee)
        assert standing.history[-1]["epoch"] < epoch or 1 / 0

    patch.setattr(Checkpoints, "save", kill)


def assert_same(one, other) -> None:
    for weights, others in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, others)
    assert one.best["epoch"] == other.best["epoch"]
    histories = [[{**row, "seconds": 0} for row in trained.history] for trained in (one, other)]
    assert histories[0] == histories[1]


def table(path):
    with path.open() as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]

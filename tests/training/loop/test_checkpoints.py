"""A training that is interrupted, at whatever epoch, ends as if it had not been."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from training_support import write_listing

from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.specs import (
    CheckpointSpec,
    HeadSpec,
    LogSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainConfig,
    check_effect,
)
from fastcls.training.head_trainer import train_head
from fastcls.training.loop import checkpoints, optimization
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.loop.logs import TrainingLog
from fastcls.training.rows import cached as feeder

DROPOUT = HeadSpec(layers=(16, 0.5))
EACH = CheckpointSpec(checkpoint_every=1)
ADAM = TrainConfig(
    epochs=6,
    learning_rate=0.2,
    schedule=ScheduleSpec("plateau", rate_factor=0.5, rate_patience=1),
    loss=LossSpec(label_smoothing=0.1),
    checkpoints=EACH,
    logs=LogSpec(log_steps=1),
)
SGD = TrainConfig(
    OptimizerSpec("SGD", momentum=0.9),
    epochs=6,
    learning_rate=0.2,
    schedule=ScheduleSpec("cosine", warmup=2),
    checkpoints=EACH,
    logs=LogSpec(log_steps=3),
)


class Killed(BaseException):
    """What no code catches."""


@pytest.mark.parametrize(
    ("config", "memory"),
    [(ADAM, "kept"), (SGD, "streamed"), (replace(ADAM, patience=2), "streamed")],
    ids=["adam", "sgd", "stops"],
)
def test_train_head__killed_after_any_epoch_ends_as_if_it_had_not_been(
    make_cache, monkeypatch, tmp_path, config, memory
):
    cache, _, _ = make_cache(200, spread=0.3)
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 96)  # 96 rows of 16 floats
    monkeypatch.setattr(feeder, "_RUN_BYTES", 64 * 5)
    plenty = feeder.allowed_memory
    monkeypatch.setattr(feeder, "allowed_memory", plenty if memory == "kept" else lambda: 0)
    whole = train_head(cache, DROPOUT, config, folder=tmp_path / "whole")
    rates = [row["learning_rate"] for row in whole.history]
    assert len(set(rates)) > 1  # the schedule has something to remember
    for epoch, place in ((1, "write"), (4, "save")):
        with pytest.raises(Killed), monkeypatch.context() as patch:
            _kill(patch, epoch, place)
            train_head(cache, DROPOUT, config, folder=tmp_path / "killed")
        # The order of the rows stays what it was, though there is more memory now, or less.
        monkeypatch.setattr(feeder, "allowed_memory", (lambda: 0) if memory == "kept" else plenty)
    resumed = train_head(cache, DROPOUT, config, folder=tmp_path / "killed")
    _assert_same(whole, resumed)
    for name in ("history.csv", "steps.csv"):
        assert _table(tmp_path / "killed" / name) == _table(tmp_path / "whole" / name)


def test_train_head__killed_when_all_was_trained_trains_no_more(make_cache, monkeypatch, tmp_path):
    cache, _, _ = make_cache()
    with pytest.raises(Killed), monkeypatch.context() as patch:
        _kill(patch, ADAM.epochs, "save")
        train_head(cache, DROPOUT, ADAM, folder=tmp_path)
    before = (tmp_path / "history.csv").read_text()
    train_head(cache, DROPOUT, ADAM, folder=tmp_path)
    assert (tmp_path / "history.csv").read_text() == before  # the seconds too


def test_train_head__killed_before_the_last_checkpoint_is_kept_keeps_it(make_cache, monkeypatch, tmp_path):
    cache, _, _ = make_cache()
    link, last = checkpoints._link, f"epoch-{ADAM.epochs:04}.keras"

    def kill(path, kept):
        if kept.name == last:
            raise Killed
        link(path, kept)

    with pytest.raises(Killed), monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_link", kill)
        train_head(cache, DROPOUT, ADAM, folder=tmp_path)
    train_head(cache, DROPOUT, ADAM, folder=tmp_path)
    assert _names(tmp_path / "checkpoints") == [last]


def test_train_head__goes_on_before_a_damaged_checkpoint(make_cache, monkeypatch, tmp_path, caplog):
    cache, _, _ = make_cache()
    whole = train_head(cache, DROPOUT, ADAM, folder=tmp_path / "whole")
    with pytest.raises(Killed), monkeypatch.context() as patch:
        _kill(patch, 3, "save")
        train_head(cache, DROPOUT, ADAM, folder=tmp_path / "killed")
    resume = tmp_path / "killed" / "resume"
    assert _names(resume) == ["epoch-0002.keras", "epoch-0003.keras"]
    damaged = bytearray((resume / "epoch-0003.keras").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (resume / "epoch-0003.keras").write_bytes(damaged)
    resumed = train_head(cache, DROPOUT, ADAM, folder=tmp_path / "killed")
    assert "epoch-0003.keras is not a fastcls checkpoint, or damaged" in caplog.text
    assert "Resuming after epoch 2" in caplog.text
    _assert_same(whole, resumed)


@pytest.mark.parametrize(
    ("head", "changes", "named"),
    [
        (DROPOUT, {"learning_rate": 0.01}, r"--learning-rate was 0\.2, is 0\.01"),
        (DROPOUT, {"val": 0.2}, r"--val was unset, is 0\.2"),
        (HeadSpec(layers=(16, 0.4)), {}, r"--layers was 16,0\.5, is 16,0\.4"),
    ],
)
def test_train_head__another_request_is_refused(make_cache, monkeypatch, tmp_path, head, changes, named):
    cache, _, _ = make_cache()
    with pytest.raises(Killed), monkeypatch.context() as patch:
        _kill(patch, 1, "save")
        train_head(cache, DROPOUT, ADAM, folder=tmp_path)
    state = _names(tmp_path)
    with pytest.raises(OptionError, match=named) as refused:
        train_head(cache, head, replace(ADAM, **changes), folder=tmp_path)
    assert "--restart" in str(refused.value)
    assert _names(tmp_path) == state


def test_train_head__other_labels_or_another_start_are_refused(make_cache, monkeypatch, tmp_path):
    cache, _, _ = make_cache()
    start = train_head(cache, DROPOUT, replace(ADAM, epochs=2))
    with pytest.raises(Killed), monkeypatch.context() as patch:
        _kill(patch, 1, "save")
        train_head(cache, None, ADAM, start=start, folder=tmp_path)
    with pytest.raises(OptionError, match="the weights to start from are others"):
        train_head(cache, DROPOUT, ADAM, folder=tmp_path)
    rows = cache.samples()
    places = [place for place, row in enumerate(rows) if row.split == "train"][:2]
    rows[places[0]] = replace(rows[places[0]], labels=rows[places[1]].labels)
    write_listing(cache, rows)
    with pytest.raises(OptionError, match="the images to train on, or their labels, are others"):
        train_head(cache, None, ADAM, start=start, folder=tmp_path)


def test_checkpoints__time_decides_unless_told(make_cache, monkeypatch, tmp_path):
    cache, _, _ = make_cache()
    seldom = replace(ADAM, epochs=2, checkpoints=CheckpointSpec())
    train_head(cache, DROPOUT, seldom, folder=tmp_path / "seldom")
    monkeypatch.setattr(checkpoints, "_LOSE_AT_MOST_S", 0.0)
    train_head(cache, DROPOUT, seldom, folder=tmp_path / "often")
    train_head(cache, DROPOUT, replace(seldom, checkpoints=CheckpointSpec(0)), folder=tmp_path / "never")
    written = {name: _names(tmp_path / name / "resume") for name in ("seldom", "often", "never")}
    assert written == {"seldom": [], "often": ["epoch-0001.keras", "epoch-0002.keras"], "never": []}
    assert not (tmp_path / "often" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (CheckpointSpec(checkpoint_every=2), [8]),
        (CheckpointSpec(checkpoint_every=3, checkpoint_keep=5), [3, 6]),
        (CheckpointSpec(checkpoint_every=1, checkpoint_keep=3), [6, 7, 8]),
        (CheckpointSpec(checkpoint_every=1, checkpoint_keep=9, checkpoint_best_only=True), [1, 2, 4]),
        (CheckpointSpec(checkpoint_every=2, checkpoint_keep=9, checkpoint_best_only=True), [2, 4]),
        (CheckpointSpec(checkpoint_every=1, checkpoint_keep=9, min_accuracy=0.7), [3, 5, 7]),
        (
            CheckpointSpec(
                checkpoint_every=1, checkpoint_keep=9, checkpoint_best_only=True, min_accuracy=0.7
            ),
            [3],
        ),
        (CheckpointSpec(checkpoint_every=1, min_accuracy=0.95), []),
    ],
)
def test_checkpoints__which_are_kept(spec, expected):
    losses = [1.0, 0.9, 0.95, 0.5, 0.96, 0.8, 0.99, 0.7]
    accuracies = [0.1, 0.2, 0.7, 0.6, 0.8, 0.6, 0.9, 0.69]
    history, kept = [], []
    for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1):
        history.append({"epoch": epoch, "val_loss": loss, "val_accuracy": accuracy})
        if epoch % spec.checkpoint_every == 0 and checkpoints.is_kept(history, spec):
            kept.append(epoch)
    assert kept[-spec.checkpoint_keep :] == expected


def test_checkpoints__a_kept_one_is_the_head_after_its_epoch(make_cache, tmp_path):
    keras = import_keras()
    cache, _, _ = make_cache()
    config = replace(
        ADAM,
        schedule=ScheduleSpec(),
        val=0.0,
        checkpoints=CheckpointSpec(checkpoint_every=2, checkpoint_keep=2),
    )
    train_head(cache, DROPOUT, config, folder=tmp_path)
    assert _names(tmp_path / "checkpoints") == ["epoch-0004.keras", "epoch-0006.keras"]
    fourth = train_head(cache, DROPOUT, replace(config, epochs=4))
    loaded = keras.saving.load_model(tmp_path / "checkpoints" / "epoch-0004.keras")
    _assert_equal(fourth.model.get_weights(), loaded.get_weights())


def test_train_head__of_enough_accuracy_is_kept_though_its_loss_is_higher(make_cache, caplog):
    cache, _, _ = make_cache(60, spread=0.2)
    config = TrainConfig(epochs=30, learning_rate=0.02, patience=0)
    free = train_head(cache, HeadSpec(layers=(64,)), config)
    highest = max(row["val_accuracy"] for row in free.history)
    assert free.best["val_accuracy"] < highest  # or the gate would change nothing
    gate = CheckpointSpec(min_accuracy=highest)
    gated = train_head(cache, HeadSpec(layers=(64,)), replace(config, checkpoints=gate))
    passing = [row for row in free.history if row["val_accuracy"] >= highest]
    assert gated.best["epoch"] == min(passing, key=lambda row: row["val_loss"])["epoch"]
    assert not caplog.text
    gate = CheckpointSpec(min_accuracy=1.0)
    kept = train_head(cache, HeadSpec(layers=(64,)), replace(config, checkpoints=gate))
    assert kept.best["epoch"] == free.best["epoch"]
    assert f"reached the accuracy 1: the highest validation accuracy was {highest:.4f}" in caplog.text


@pytest.mark.parametrize("val", [None, 0.0])
def test_checkpoints__what_is_not_a_number_is_none(make_cache, monkeypatch, tmp_path, val):
    cache, _, _ = make_cache(300)
    config = replace(SGD, schedule=ScheduleSpec(), val=val)
    # 210 rows are 7 steps. The last of epoch 3 spoils the weights; without validation, epoch 4 finds out.
    monkeypatch.setattr(optimization.Rate, "at", _infinite_at(3 * 7 - 1))
    if val is None:
        assert train_head(cache, None, config, folder=tmp_path).best["epoch"] <= 2
        assert _names(tmp_path / "resume") == ["epoch-0001.keras", "epoch-0002.keras"]
    else:
        saved = []
        monkeypatch.setattr(Checkpoints, "forget", lambda self: saved.extend(_names(tmp_path / "resume")))
        with pytest.raises(OptionError, match=r"in epoch 4 \(step 1\)"):
            train_head(cache, None, config, folder=tmp_path)
        assert saved == ["epoch-0001.keras", "epoch-0002.keras"]


def test_train_head__that_can_only_fail_leaves_nothing_to_go_on_from(make_cache, monkeypatch, tmp_path):
    monkeypatch.setattr(optimization.Rate, "at", _infinite_at(10))
    with pytest.raises(OptionError, match="NaN or infinite"):
        train_head(make_cache()[0], None, replace(SGD, schedule=ScheduleSpec(), val=0.0), folder=tmp_path)
    assert not checkpoints.has_checkpoint(tmp_path)


def test_snapshot__is_a_keras_file_with_more_members(make_cache, tmp_path):
    cache, _, _ = make_cache()
    train_head(cache, DROPOUT, ADAM, folder=tmp_path)
    with zipfile.ZipFile(tmp_path / "checkpoints" / "epoch-0006.keras") as archive:
        names = archive.namelist()
    assert {"config.json", "model.weights.h5", "fastcls/state.json", "fastcls/random/0.npy"} <= set(names)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"checkpoint_every": -1}, "checkpoint_every must be 0 or more"),
        ({"checkpoint_keep": 0, "checkpoint_every": 1}, "checkpoint_keep must be 1 or more"),
        ({"checkpoint_keep": 3}, "--checkpoint-keep has no effect with --checkpoint-every unset"),
        (
            {"checkpoint_every": 0, "checkpoint_best_only": True},
            "--checkpoint-best-only has no effect with --checkpoint-every 0",
        ),
        ({"min_accuracy": 1.5}, "at most 1. Received: 1.5"),
    ],
)
def test_checkpoint_spec__refuses(given, complaint):
    with pytest.raises(OptionError, match=complaint):
        CheckpointSpec(**given)


def test_train_config__refuses_what_needs_validation():
    gate = CheckpointSpec(checkpoint_every=1, checkpoint_best_only=True, min_accuracy=0.5)
    with pytest.raises(
        OptionError,
        match="--checkpoint-best-only, --min-accuracy, --confusion-every have no effect with --val 0",
    ):
        TrainConfig(val=0.0, checkpoints=gate, logs=LogSpec(confusion_every=1))
    with pytest.raises(OptionError, match="--min-accuracy, --log-steps have no effect with --head knn"):
        check_effect(HeadSpec("knn"), TrainConfig(checkpoints=gate, logs=LogSpec(log_steps=1)))


def _kill(patch, epoch: int, place: str) -> None:
    """Let a training end once an epoch is saved, or once it is in the tables but not saved."""
    home, find = (Checkpoints, _saved) if place == "save" else (TrainingLog, _written)
    plain = getattr(home, place)

    def kill(self, *values):
        plain(self, *values)
        if find(values) >= epoch:
            raise Killed

    patch.setattr(home, place, kill)


def _saved(values) -> int:
    return values[0].history[-1]["epoch"]


def _written(values) -> int:
    return values[0]["epoch"]


def _infinite_at(place):
    def at(rate, step):
        from keras import ops

        return ops.where(ops.cast(step, "int64") == place, float("inf"), 0.01)

    return at


def _assert_same(one, other) -> None:
    _assert_equal(one.model.get_weights(), other.model.get_weights())
    assert one.best["epoch"] == other.best["epoch"]
    histories = [[{**row, "seconds": 0} for row in trained.history] for trained in (one, other)]
    assert histories[0] == histories[1]


def _assert_equal(some, others) -> None:
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, other)


def _table(path):
    with path.open() as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


def _names(folder):
    return sorted(path.name for path in folder.glob("*"))

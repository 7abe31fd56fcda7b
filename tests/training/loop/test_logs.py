"""What a training writes down, against what was computed."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.evaluation.one_label import evaluate
from fastcls.specs import (
    CheckpointSpec,
    HeadSpec,
    LogSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainConfig,
)
from fastcls.training.head_trainer import train_head
from fastcls.training.loop import logs
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import select

CONFIG = TrainConfig(
    OptimizerSpec("SGD"), epochs=3, learning_rate=0.2, schedule=ScheduleSpec("cosine", warmup=1)
)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_steps__their_mean_is_the_row_of_the_epoch(make_cache, monkeypatch, tmp_path, is_streamed):
    cache, _, _ = make_cache(300)
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 96)  # 96 rows of 16 floats: three blocks
    if is_streamed:
        monkeypatch.setattr(feeder, "allowed_memory", lambda: 0)
    config = replace(CONFIG, loss=LossSpec(l2=0.01, class_weight="balanced"), logs=LogSpec(log_steps=1))
    history = train_head(cache, HeadSpec(layers=(8, 0.5)), config, folder=tmp_path).history
    rows = _read(tmp_path / "steps.csv")
    assert list(rows[0]) == ["epoch", "step", "loss", "learning_rate"]
    assert [int(row["step"]) for row in rows] == list(range(1, 3 * 7 + 1))  # 210 rows: 7 steps an epoch
    for epoch, expected in enumerate(history, start=1):
        steps = [row for row in rows if int(row["epoch"]) == epoch]
        weights = [32] * 6 + [210 - 6 * 32]
        loss = np.average([float(row["loss"]) for row in steps], weights=weights)
        assert loss == pytest.approx(expected["loss"], rel=1e-6)
        assert float(steps[0]["learning_rate"]) == pytest.approx(expected["learning_rate"], rel=1e-6)
    # The warm-up rises by the same amount with each step.
    rates = [float(row["learning_rate"]) for row in rows[:7]]
    assert rates == pytest.approx([0.2 * step / 7 for step in range(1, 8)], rel=1e-6)


def test_steps__writing_them_down_changes_nothing(make_cache, tmp_path):
    cache, _, _ = make_cache(300)
    plain = train_head(cache, None, CONFIG)
    told = replace(CONFIG, logs=LogSpec(log_steps=4, confusion_every=1))
    noted = train_head(cache, None, told, folder=tmp_path)
    for one, other in zip(plain.model.get_weights(), noted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [int(row["step"]) for row in _read(tmp_path / "steps.csv")] == [4, 8, 12, 16, 20]


def test_history__is_there_after_each_epoch(make_cache, monkeypatch, tmp_path):
    seen = []
    plain = logs.TensorBoardLog.write

    def write(self, row):
        plain(self, row)
        seen.append(len(_read(tmp_path / "history.csv")))

    monkeypatch.setattr(logs.TensorBoardLog, "write", write)
    trained = train_head(make_cache()[0], None, CONFIG, folder=tmp_path)
    assert seen == [1, 2, 3]
    rows = [{name: float(value) for name, value in row.items()} for row in _read(tmp_path / "history.csv")]
    assert rows == list(trained.history)


def test_confusion__is_that_of_the_epoch(make_cache, monkeypatch, tmp_path):
    cache, _, _ = make_cache(300, spread=0.2)
    drawn = {}
    monkeypatch.setattr(
        logs, "draw_confusion", lambda counts, names, path: drawn.update({path.name: (counts, names)})
    )
    kept = CheckpointSpec(checkpoint_every=1, checkpoint_keep=9)
    config = replace(CONFIG, epochs=4, checkpoints=kept, logs=LogSpec(confusion_every=2))
    train_head(cache, None, config, folder=tmp_path)
    assert sorted(drawn) == ["epoch-0002.png", "epoch-0004.png"]
    val = select(cache, config).val
    for epoch in (2, 4):
        model = import_keras().saving.load_model(tmp_path / "checkpoints" / f"epoch-{epoch:04d}.keras")
        probabilities = model.predict(val.rows.read(), verbose=0)
        counts, names = drawn[f"epoch-{epoch:04d}.png"]
        np.testing.assert_array_equal(counts, evaluate(val.labels, probabilities, names).confusion)


def test_confusion__is_a_picture(make_cache, tmp_path):
    train_head(make_cache()[0], None, replace(CONFIG, logs=LogSpec(confusion_every=3)), folder=tmp_path)
    (picture,) = (tmp_path / "confusion").iterdir()
    assert picture.name == "epoch-0003.png" and picture.read_bytes().startswith(b"\x89PNG")


def test_tensorboard__has_the_graph_and_the_learning_rate(make_cache, tmp_path):
    trained = train_head(make_cache()[0], HeadSpec(layers=(8, 0.5)), CONFIG, folder=tmp_path)
    events = _events(tmp_path / "tensorboard" / "train")
    operations = {node.op for event in events if event.graph_def for node in _graph(event).node}
    assert {"Placeholder", "MatMul", "Relu", "Softmax"} <= operations
    rates = [
        float(_array(value))
        for event in events
        for value in event.summary.value
        if value.tag == "epoch_learning_rate"
    ]
    assert rates == pytest.approx([row["learning_rate"] for row in trained.history])
    assert len(set(rates)) == 3


def _events(folder):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    (file,) = folder.iterdir()
    return [event_pb2.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(file))]


def _graph(event):
    from tensorflow.core.framework import graph_pb2

    return graph_pb2.GraphDef.FromString(event.graph_def)


def _array(value):
    import tensorflow as tf

    return tf.make_ndarray(value.tensor)


def _read(path):
    with path.open() as file:
        return list(csv.DictReader(file))

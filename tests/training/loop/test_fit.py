"""The compiled passes do what a plain loop over the batches does."""

from __future__ import annotations

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.heads.network import build_head
from fastcls.training.loop.fit import epoch_runner, fit
from fastcls.training.loop.optimization import Rate
from fastcls.training.loop.snapshots import Trainee
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.cached import Feeder
from fastcls.training.rows.selection import select

# 210 rows to train on and 60 to validate on: the last batch is smaller in both.
BATCH = 32


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_fit__equals_a_plain_loop(make_cache, monkeypatch, memory_bytes):
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 96)  # 96 rows of 16 floats
    chosen = select(make_cache(300)[0], TrainConfig())

    def feed(part, seed):
        return Feeder(part, BATCH, seed, memory_bytes)

    ours, plain = _model(), _model()
    rate = Rate(TrainConfig(), steps=7)
    run_epoch = epoch_runner(ours, feed(chosen.train, 3), feed(chosen.val, None))
    (row,) = fit(Trainee(ours, rate), run_epoch, TrainConfig(epochs=1)).history
    expected = _plain_epoch(plain, feed(chosen.train, 3).blocks())
    for one, other in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    val = plain.evaluate(chosen.val.rows.read(), chosen.val.labels, verbose=0)
    figures = [row[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
    assert figures == pytest.approx([*expected, *val], rel=1e-5)


def _plain_epoch(model, blocks):
    sums = np.zeros(3)
    for rows, labels, order in blocks:
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            model.reset_metrics()
            loss, accuracy = model.train_on_batch(np.asarray(rows)[places], np.asarray(labels)[places])
            sums += np.array([loss, accuracy, 1.0]) * len(places)
    return sums[:2] / sums[2]


def _model():
    keras = import_keras()
    keras.utils.set_random_seed(0)
    model = build_head(HeadSpec(layers=(8,)), (16,), 3)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

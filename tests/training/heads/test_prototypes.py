"""Nearest class means against scikit-learn and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import Normalizer, normalize

from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.prototypes import TEMPERATURES
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import select

PROTOTYPE = HeadSpec("prototype")


@pytest.mark.parametrize(("shape", "classes"), [((16,), 2), ((16,), 7), ((2, 3, 8), 3)])
def test_fit_prototypes__is_the_nearest_centroid_on_the_sphere(make_cache, shape, classes):
    cache, features, _ = make_cache(300, shape=shape, classes=classes, spread=0.3)
    chosen = select(cache, TrainConfig())
    average = tuple(range(1, len(shape)))
    train = Normalizer().transform(chosen.train.rows.read().mean(axis=average))
    reference = NearestCentroid().fit(train, chosen.train.labels)
    reference.centroids_ = normalize(reference.centroids_)
    trained = train_head(cache, PROTOTYPE)
    ours = trained.model.predict(features, verbose=0)
    expected = reference.predict(Normalizer().transform(features.mean(axis=average)))
    np.testing.assert_array_equal(ours.argmax(axis=1), expected)
    assert not (expected == reference.predict(np.zeros_like(train[:1]))).all()


@pytest.mark.parametrize("block_bytes", [1 << 26, 640])
def test_fit_prototypes__chooses_the_temperature_of_the_lowest_loss(make_cache, monkeypatch, block_bytes):
    monkeypatch.setattr(feeder, "BLOCK_BYTES", block_bytes)  # all rows at once, or ten
    cache, _, _ = make_cache(300, spread=0.3)
    chosen = select(cache, TrainConfig())
    rows, labels = chosen.train.rows.read().astype(float), chosen.train.labels
    unit = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    means = np.stack([unit[labels == label].mean(axis=0) for label in range(3)])
    means /= np.sqrt((means**2).sum(axis=1, keepdims=True))
    trained = train_head(cache, PROTOTYPE)
    assert [row["temperature"] for row in trained.history] == list(TEMPERATURES)
    sides = {"": chosen.train, "val_": chosen.val}
    for row in trained.history:
        for prefix, side in sides.items():
            values = side.rows.read() @ means.T / np.linalg.norm(side.rows.read(), axis=1, keepdims=True)
            powers = np.exp((values - values.max(axis=1, keepdims=True)) / row["temperature"])
            expected = powers / powers.sum(axis=1, keepdims=True)
            true = np.clip(expected[np.arange(len(side)), side.labels], 1e-7, 1)  # as Keras's loss does
            assert row[f"{prefix}loss"] == pytest.approx(-np.log(true).mean(), rel=1e-3)
            right = np.mean(expected.argmax(axis=1) == side.labels)
            assert row[f"{prefix}accuracy"] == pytest.approx(right)
    assert trained.best["val_loss"] == min(row["val_loss"] for row in trained.history)
    assert TEMPERATURES[0] < trained.best["temperature"] < TEMPERATURES[-1]


def test_fit_prototypes__the_figures_are_those_of_the_model(make_cache):
    cache, _, _ = make_cache(spread=0.3)
    trained = train_head(cache, PROTOTYPE)
    val = select(cache, TrainConfig()).val
    trained.model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = trained.model.evaluate(val.rows.read(), val.labels, verbose=0)
    assert (loss, accuracy) == pytest.approx(
        (trained.best["val_loss"], trained.best["val_accuracy"]), rel=1e-4
    )


def test_fit_prototypes__without_validation_takes_the_default_temperature(make_cache):
    cache, features, _ = make_cache()
    trained = train_head(cache, PROTOTYPE, TrainConfig(val=0.0))
    assert [row["temperature"] for row in trained.history] == [0.07]
    assert set(trained.best) == {"temperature", "loss", "accuracy", "seconds"}
    probabilities = trained.model.predict(features, verbose=0).astype(float)
    cosines = normalize(features) @ trained.model.get_weights()[0]
    differences = np.log(probabilities[:, 0] / probabilities[:, 1])
    np.testing.assert_allclose(differences, (cosines[:, 0] - cosines[:, 1]) / 0.07, rtol=1e-3, atol=1e-4)


def test_fit_prototypes__a_bottleneck_of_zeros_is_like_no_class(make_cache):
    trained = train_head(make_cache()[0], PROTOTYPE)
    np.testing.assert_allclose(
        trained.model(np.zeros((1, 16), np.float32)), np.full((1, 3), 1 / 3), rtol=1e-6
    )

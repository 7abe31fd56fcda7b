"""Weighted nearest neighbors against the formula in plain NumPy and scikit-learn's search."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.knn import K_GRID, neighbor_head
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import select

KNN = HeadSpec("knn")


def vote(train, labels, classes, row, k):
    """Probabilities for one row by the formula of DINO's eval_knn.py, a neighbor at a time."""
    similarities = train @ row / np.linalg.norm(train, axis=1) / np.linalg.norm(row)
    votes = np.zeros(classes)
    for place in sorted(range(len(train)), key=lambda place: -similarities[place])[:k]:
        votes[labels[place]] += np.exp(similarities[place] / 0.07)
    return votes / votes.sum()


@pytest.mark.parametrize("classes", [2, 5])
def test_fit_neighbors__votes_as_the_formula_says(make_cache, classes):
    cache, features, _ = make_cache(300, classes=classes, spread=0.3)
    chosen = select(cache, TrainConfig())
    train, labels = chosen.train.rows.read().astype(float), chosen.train.labels
    trained = train_head(cache, KNN)
    expected = [vote(train, labels, classes, row, int(trained.best["k"])) for row in features.astype(float)]
    np.testing.assert_allclose(trained.model.predict(features, verbose=0), expected, atol=1e-4)


@pytest.mark.parametrize("block_bytes", [1 << 26, 1280])
def test_fit_neighbors__chooses_k_on_validation(make_cache, monkeypatch, block_bytes):
    monkeypatch.setattr(feeder, "BLOCK_BYTES", block_bytes)  # all rows at once, or twenty, of them two
    cache, _, _ = make_cache(220, spread=0.3)
    chosen = select(cache, TrainConfig())
    train, labels = chosen.train.rows.read(), chosen.train.labels
    search = NearestNeighbors(metric="cosine", algorithm="brute").fit(train)
    distances, places = search.kneighbors(chosen.val.rows.read(), n_neighbors=len(train))
    trained = train_head(cache, KNN)
    assert (
        [row["k"] for row in trained.history] == [k for k in K_GRID if k <= 154] == [1, 3, 5, 10, 20, 50, 100]
    )
    for row in trained.history:
        k = int(row["k"])
        weights = np.exp((1 - distances[:, :k]) / 0.07)
        votes = np.stack([(weights * (labels[places[:, :k]] == label)).sum(axis=1) for label in range(3)], 1)
        shares = votes / votes.sum(axis=1, keepdims=True)
        assert row["val_accuracy"] == pytest.approx(np.mean(shares.argmax(axis=1) == chosen.val.labels))
        true = shares[np.arange(len(shares)), chosen.val.labels]
        assert row["val_loss"] == pytest.approx(-np.log(np.clip(true, 1e-7, 1)).mean(), rel=1e-3)
    keys = [(-row["val_accuracy"], row["val_loss"]) for row in trained.history]
    assert trained.best == trained.history[keys.index(min(keys))]
    assert 1 < trained.best["k"] < 100


def test_fit_neighbors__the_figures_are_those_of_the_model(make_cache):
    cache, _, _ = make_cache(spread=0.3)
    trained = train_head(cache, KNN)
    val = select(cache, TrainConfig()).val
    trained.model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = trained.model.evaluate(val.rows.read(), val.labels, verbose=0)
    assert (loss, accuracy) == pytest.approx(
        (trained.best["val_loss"], trained.best["val_accuracy"]), rel=1e-3
    )


@pytest.mark.parametrize(("count", "k"), [(300, 20), (12, 12)])
def test_fit_neighbors__without_validation_takes_twenty_or_all_there_are(make_cache, count, k):
    cache, features, _ = make_cache(count)
    trained = train_head(cache, KNN, TrainConfig(val=0.0))
    rows = trained.train_count
    assert trained.best["k"] == min(20, rows) and set(trained.best) == {"k", "seconds"}
    chosen = select(cache, TrainConfig(val=0.0))
    expected = vote(chosen.train.rows.read(), chosen.train.labels, 3, features[0], k)
    np.testing.assert_allclose(trained.model(features[:1])[0], expected, atol=1e-4)


def test_fit_neighbors__averages_a_spatial_bottleneck(make_cache):
    cache, features, _ = make_cache(60, shape=(2, 3, 8))
    chosen = select(cache, TrainConfig())
    trained = train_head(cache, KNN)
    train = chosen.train.rows.read().mean(axis=(1, 2))
    expected = vote(train, chosen.train.labels, 3, features[7].mean(axis=(0, 1)), int(trained.best["k"]))
    np.testing.assert_allclose(trained.model(features[7:8])[0], expected, atol=1e-4)


def test_neighbor_head__of_equal_rows_takes_those_that_come_first():
    import_keras()
    kernel = np.array([[1, 1, 1, 0], [0, 0, 0, 1]], np.float32)
    head = neighbor_head((2,), kernel, np.array([1, 0, 2, 2]), 3, k=2)
    np.testing.assert_allclose(head(np.array([[9, 0], [1, 1]], np.float32)), [[0.5, 0.5, 0]] * 2, atol=1e-6)
    # Lengths do not matter, and nothing overflows.
    np.testing.assert_allclose(head(np.array([[1e-3, 1e-3], [1e15, 1e15]], np.float32)), [[0.5, 0.5, 0]] * 2)


def test_fit_neighbors__refuses_what_does_not_fit_into_memory(make_cache, monkeypatch):
    monkeypatch.setattr(feeder, "allowed_memory", lambda: 1000)
    with pytest.raises(OptionError, match=r"knn needs all bottlenecks in memory.*--head linear"):
        train_head(make_cache()[0], KNN)

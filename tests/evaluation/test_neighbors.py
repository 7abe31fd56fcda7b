"""The most similar images of each image."""

from __future__ import annotations

import numpy as np
import pytest

from fastcls.evaluation import neighbors
from fastcls.evaluation.neighbors import find_neighbors, shorten

RANDOM = np.random.default_rng(1)


def by_hand(rows, among, k):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    cosines[:, np.setdiff1d(np.arange(len(rows)), among)] = -2
    np.fill_diagonal(cosines, -2)
    return np.sort(cosines, axis=1)[:, ::-1][:, :k]


@pytest.mark.parametrize("among", [None, np.arange(0, 90, 2)])
def test_neighbors__are_those_of_all_cosines(monkeypatch, among):
    monkeypatch.setattr(neighbors, "_BLOCK", 32)
    rows = RANDOM.normal(size=(90, 12)).astype(np.float32)
    rows[7] = rows[8] = rows[9]  # of as many equals, itself need not be the first
    near = find_neighbors(rows, shorten(rows), among, k=5)
    chosen = np.arange(90) if among is None else among
    np.testing.assert_allclose(near.similarities, by_hand(rows, chosen, 5), atol=1e-5)
    assert not (near.places == np.arange(90)[:, None]).any()
    assert np.isin(near.places, chosen).all()


def test_neighbors__of_few_images_are_fewer():
    rows = RANDOM.normal(size=(4, 3)).astype(np.float32)
    assert find_neighbors(rows, shorten(rows)).places.shape == (4, 3)
    assert find_neighbors(rows[:1], shorten(rows[:1])).places.shape == (1, 0)


def test_neighbors__of_many_are_found_along_axes_and_measured_on_the_features(monkeypatch):
    monkeypatch.setattr(neighbors, "MOST_WHOLE", 50)
    monkeypatch.setattr(neighbors, "_MEASURED", 32)
    rows = (RANDOM.normal(size=(80, 20)) @ RANDOM.normal(size=(20, 300))).astype(np.float32)
    rows += 0.01 * RANDOM.normal(size=rows.shape).astype(np.float32)
    short = shorten(rows)
    assert short.shape == (80, neighbors.AXES)
    near = find_neighbors(rows, short, k=5)
    np.testing.assert_allclose(near.similarities, by_hand(rows, np.arange(80), 5), atol=1e-5)
    assert (np.diff(near.similarities, axis=1) <= 0).all()


def test_vote__is_the_share_of_each_class_among_the_neighbors():
    rows = RANDOM.normal(size=(40, 6)).astype(np.float32)
    targets = np.eye(3)[RANDOM.integers(3, size=40)]
    near = find_neighbors(rows, shorten(rows), k=7)
    even = near.vote(targets, temperature=1e9)
    np.testing.assert_allclose(even, targets[near.places].mean(axis=1), atol=1e-5)
    nearest = near.vote(targets, temperature=1e-6)
    np.testing.assert_allclose(nearest, targets[near.places[:, 0]], atol=1e-5)
    np.testing.assert_allclose(near.vote(targets, 0.07).sum(axis=1), 1, atol=1e-5)

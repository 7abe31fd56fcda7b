"""Predictions out of fold are those of scikit-learn, and no fold knows what it is asked."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier

from fastcls.errors import DataError, OptionError
from fastcls.specs import HeadSpec
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS
from fastcls.training.heads import folds as dealing
from fastcls.training.heads.folds import Folded, deal, hold_out
from fastcls.training.out_of_fold import out_of_fold, require_separable, units_of

FITTED = [HeadSpec("logreg"), HeadSpec("prototype"), HeadSpec("knn")]


def _draw(seed, images=150, classes=3, width=20, spread=1.0):
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(images) % classes)
    centers = random.normal(size=(classes, width))
    return (spread * centers[labels] + random.normal(size=(images, width))).astype(np.float32), labels


def _tight(c, rows, labels):
    return LogisticRegression(C=c, tol=1e-9, max_iter=20000).fit(rows.astype(float), labels)


@pytest.mark.parametrize(("images", "classes", "width"), [(150, 3, 20), (60, 2, 90), (40, 5, 8)])
def test_logreg__is_scikit_learns_of_the_same_folds_and_c(images, classes, width):
    rows, labels = _draw(images, images, classes, width, spread=0.15)
    found = out_of_fold(rows, labels, ONE_LABEL, classes, repeats=2, seed=3)
    assert found.by_repeat.shape == (2, images, classes) and found.fold.shape == (2, images)
    for fold, probabilities in zip(found.fold, found.by_repeat, strict=True):
        for number in range(5):
            held = fold == number
            expected = _tight(found.best["c"], rows[~held], labels[~held]).predict_proba(rows[held])
            np.testing.assert_allclose(probabilities[held], expected, atol=5e-3)
    np.testing.assert_allclose(found.probabilities, found.by_repeat.mean(axis=0), atol=1e-6)


def test_logreg__c_has_the_lowest_loss_of_held_out_rows():
    rows, labels = _draw(1, spread=0.3)
    found = out_of_fold(rows, labels, ONE_LABEL, 3)
    for row in found.history[::3]:
        expected = np.empty((len(labels), 3))
        for held in (found.fold[0] == number for number in range(5)):
            expected[held] = _tight(row["c"], rows[~held], labels[~held]).predict_proba(rows[held])
        assert row["cv_loss"] == pytest.approx(log_loss(labels, expected), abs=2e-3)
    assert found.best == min(found.history, key=lambda row: row["cv_loss"])


def test_logreg__several_labels_are_one_vs_rest():
    rows, labels = _draw(5)
    random = np.random.default_rng(0)
    marks = (np.eye(3)[labels] + (random.random((len(labels), 3)) < 0.2) > 0).astype(np.uint8)
    found = out_of_fold(rows, marks, SEVERAL_LABELS, 3)
    held = found.fold[0] == 2
    for label in range(3):
        fit = _tight(found.best["c"], rows[~held], marks[~held, label])
        expected = fit.predict_proba(rows[held])[:, 1]
        np.testing.assert_allclose(found.probabilities[held, label], expected, atol=3e-3)


def test_knn__votes_as_scikit_learns_neighbors_do():
    rows, labels = _draw(2, spread=0.5)
    found = out_of_fold(rows, labels, ONE_LABEL, 3, spec=HeadSpec("knn"))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for number in range(5):
        held = found.fold[0] == number
        near = KNeighborsClassifier(
            int(found.best["k"]),
            metric="cosine",
            algorithm="brute",
            weights=lambda distances: np.exp((1 - distances) / 0.07),
        ).fit(unit[~held], labels[~held])
        np.testing.assert_allclose(found.probabilities[held], near.predict_proba(unit[held]), atol=1e-4)


@pytest.mark.parametrize("spec", FITTED, ids=lambda spec: spec.kind)
class TestKinds:
    def test_held_out_labels_have_no_part_in_their_predictions(self, spec):
        rows, labels = _draw(3, spread=0.5)
        fold = np.arange(150) % 4
        splits = [(np.flatnonzero(fold != n), np.flatnonzero(fold == n)) for n in range(4)]
        others = np.where(np.isin(np.arange(150), [3, 7, 11]), (labels + 1) % 3, labels)  # all in the last
        found = [
            hold_out(spec, Folded(rows, given, np.eye(3)[given], ONE_LABEL, splits, 1))
            for given in (labels, others)
        ]
        step = spec.traits.step.name
        assert found[0].best[step] == found[1].best[step]  # chosen by the first fold
        np.testing.assert_array_equal(found[0].probabilities[3], found[1].probabilities[3])
        assert (found[0].probabilities[1] != found[1].probabilities[1]).any()

    def test_is_sure_of_separate_classes_and_random_of_noise(self, spec):
        rows, labels = _draw(4, spread=3.0)
        assert (
            np.mean(out_of_fold(rows, labels, ONE_LABEL, 3, spec=spec).probabilities.argmax(1) == labels)
            > 0.97
        )
        shuffled = np.random.default_rng(0).permutation(labels)
        right = out_of_fold(rows, shuffled, ONE_LABEL, 3, spec=spec).probabilities.argmax(1) == shuffled
        assert 0.15 < np.mean(right) < 0.5  # a head that saw what it is asked would be right

    def test_rows_are_probabilities_where_classes_have_one_image(self, spec):
        rows, labels = _draw(6, 6, 6)
        found = out_of_fold(
            np.vstack([rows, rows[:2] + 1]), np.append(labels, [0, 0]), ONE_LABEL, 6, spec=spec
        )
        assert np.isfinite(found.probabilities).all()
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
        lone = [place for place, label in enumerate(labels) if label]
        assert (found.probabilities[lone, labels[lone]] < 1e-3).all()  # nothing could be known of them

    def test_further_views_are_fitted_on_where_their_image_is(self, spec):
        rows, labels = _draw(7, 60)
        image = np.arange(60).repeat(2)
        views = rows[image] + np.tile([[0.3], [-0.3]], (60, 1)).astype(np.float32)
        found = out_of_fold(rows, labels, ONE_LABEL, 3, spec=spec, views=(views, image))
        plain = out_of_fold(rows, labels, ONE_LABEL, 3, spec=spec)
        assert (plain.fold == found.fold).all() and (plain.probabilities != found.probabilities).any()
        noise = np.random.default_rng(0).permutation(
            labels
        )  # as if it saw its image's views, it would be right
        seen = out_of_fold(rows, noise, ONE_LABEL, 3, spec=spec, views=(views, image)).probabilities
        assert np.mean(seen.argmax(axis=1) == noise) < 0.6


def test_out_of_fold__same_seed_same_result_and_another_seed_deals_anew():
    rows, labels = _draw(8)
    one, same, other = (out_of_fold(rows, labels, ONE_LABEL, 3, seed=seed) for seed in (1, 1, 2))
    assert (one.by_repeat == same.by_repeat).all() and (one.fold != other.fold).any()


def test_out_of_fold__refuses_what_cannot_be_held_out():
    rows, labels = _draw(9, 6)
    with pytest.raises(DataError, match="1 separable"):
        out_of_fold(rows, labels, ONE_LABEL, 3, groups=["a"] * 6)
    with pytest.raises(OptionError, match="Received: linear"):
        out_of_fold(rows, labels, ONE_LABEL, 3, spec=HeadSpec("linear"))
    assert out_of_fold(rows, labels, ONE_LABEL, 3, folds=10).fold.max() == 5  # as many as there are images


def test_out_of_fold__c_of_many_rows_is_chosen_on_the_first_folds(monkeypatch):
    rows, labels = _draw(10)
    monkeypatch.setattr(dealing, "_ENOUGH", 40)
    found = out_of_fold(rows, labels, ONE_LABEL, 3)
    held = np.isin(found.fold[0], [0, 1])
    assert found.best["cv_accuracy"] == np.mean(found.probabilities[held].argmax(axis=1) == labels[held])


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize("seed", range(12))
def test_deal__keeps_units_together_and_is_as_even_as_scikit_learns(seed):
    random = np.random.default_rng(seed)
    images, classes, folds = (
        int(random.integers(60, 300)),
        int(random.integers(2, 7)),
        int(random.integers(2, 11)),
    )
    labels = random.choice(classes, images, p=random.dirichlet(np.full(classes, 2.0)))
    units = random.integers(images // int(random.integers(1, 8)), size=images)
    targets = np.eye(classes)[labels]
    found = deal(targets, units, folds, random)
    assert all(len(set(found[units == unit])) == 1 for unit in set(units.tolist()))
    theirs = np.zeros(images, int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(splitter.split(targets, labels, units)):
        theirs[held] = number
    assert _unevenness(targets, found, folds) < 1.3 * _unevenness(targets, theirs, folds) + 0.02


def _unevenness(targets, dealt, folds):
    shares = [
        targets[dealt == fold].sum(axis=0) / np.maximum(targets.sum(axis=0), 1) for fold in range(folds)
    ]
    return np.std(shares, axis=0).mean()


@pytest.mark.parametrize("several", [False, True])
def test_deal__images_that_may_be_apart_are_dealt_evenly(several):
    random = np.random.default_rng(0)
    targets = (random.random((203, 4)) < 0.3) if several else np.eye(4)[random.integers(4, size=203)]
    found = deal(targets, np.arange(203), 5, random)
    counts = np.stack([targets[found == fold].sum(axis=0) for fold in range(5)])
    assert np.ptp(np.bincount(found)) <= (3 if several else 1)
    assert np.ptp(counts, axis=0).max() <= (3 if several else 1)


def test_units_of__identical_rows_and_groups_are_tied():
    rows = np.array([[0.0], [1], [0], [2], [3], [4]], np.float32)
    units = units_of(rows, ["", "a", "a", "", "b", "b"])
    assert units[0] == units[1] == units[2] and units[4] == units[5]
    assert len(set(units.tolist())) == 3
    assert (units_of(rows, np.array([0, 1, 1, 2, 3, 3])) == units).all()


def test_out_of_fold__loads_no_tensorflow():
    script = """
import sys, numpy as np
from fastcls.specs import HeadSpec
from fastcls.tasks import ONE_LABEL
from fastcls.training.out_of_fold import out_of_fold
rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
for kind in ("logreg", "prototype", "knn"):
    out_of_fold(rows, np.arange(40) % 3, ONE_LABEL, 3, spec=HeadSpec(kind))
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_require_separable__warns_of_a_class_that_stays_together(caplog):
    targets = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    require_separable(np.array([0, 1, 2, 3, 4, 5]), targets, "abc", 6)
    assert not caplog.records
    require_separable(np.array([0, 1, 2, 3, 4, 4]), targets, "abc", 2)
    assert "All images of 'c' stay together" in caplog.text
    with pytest.raises(DataError, match=r"--folds 6 needs as many.*6 images, 5 separable"):
        require_separable(np.array([0, 1, 2, 3, 4, 4]), targets, "abc", 6)

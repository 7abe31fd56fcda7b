"""The linear probe: scikit-learn's optimum, chosen on validation, as one softmax layer."""

from __future__ import annotations

import warnings
from unittest.mock import MagicMock

import numpy as np
import pytest
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits

from fastcls.errors import OptionError
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.folds import make_splits
from fastcls.training.heads.logreg import C_GRID, DEFAULT_C, fit_logreg
from fastcls.training.rows.selection import LabeledRows, select

LOGREG = HeadSpec("logreg", refit=False)
L2 = HeadSpec("logreg", bottleneck_norm="l2", refit=False)
QUICK = {"assume_finite": True, "skip_parameter_validation": True}


@pytest.mark.parametrize(
    ("shape", "classes", "norm"), [((16,), 2, "none"), ((16,), 5, "l2"), ((2, 3, 8), 5, "none")]
)
def test_sweep__each_value_reaches_an_independent_tight_fit(make_cache, shape, classes, norm):
    cache, _, _ = make_cache(300, shape=shape, classes=classes, spread=0.2)
    trained = train_head(cache, HeadSpec("logreg", bottleneck_norm=norm, refit=False))
    chosen = select(cache, TrainConfig())
    train, val = (
        part.rows.read().astype(float).mean(axis=tuple(range(1, len(shape))))
        for part in (chosen.train, chosen.val)
    )
    if norm == "l2":
        train, val = (Normalizer().transform(part) for part in (train, val))
    for row in trained.history:
        tight = LogisticRegression(C=row["c"], tol=1e-9, max_iter=20000).fit(train, chosen.train.labels)
        assert row["loss"] == pytest.approx(
            log_loss(chosen.train.labels, tight.predict_proba(train)), abs=1e-3
        )
        if row is trained.best:
            ours = trained.model.predict(chosen.val.rows.read(), verbose=0)
            np.testing.assert_allclose(ours, tight.predict_proba(val), atol=5e-3)


def test_sweep__keeps_the_lowest_validation_loss_in_one_layer(make_cache):
    cache, _, _ = make_cache(300, spread=0.2)
    trained = train_head(cache, LOGREG)
    values = [row["c"] for row in trained.history]
    assert values == list(C_GRID[: len(values)]) and len(values) < len(C_GRID)
    assert trained.best == min(trained.history, key=lambda row: row["val_loss"])
    assert trained.history.index(trained.best) == len(values) - 3
    val = select(cache, TrainConfig()).val
    assert len(trained.model.get_weights()) == 2
    probabilities = trained.model.predict(val.rows.read(), verbose=0)
    assert log_loss(val.labels, probabilities) == pytest.approx(trained.best["val_loss"], abs=1e-5)
    again = train_head(cache, LOGREG, TrainConfig(seed=7))
    for one, other in zip(trained.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class _Rows:
    """Bottlenecks in memory."""

    def __init__(self, rows):
        self._rows = rows

    def take(self, places):
        return _Rows(self._rows[places])

    def read(self, into=None):
        return self._rows


def _draw(seed):
    """A few unequal classes of about eight rows, near to each other or far apart, away from the origin."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(3, 6))
    counts = np.maximum(3, random.dirichlet(np.full(classes, 1.5)) * 8 * classes).astype(int)
    labels = np.arange(classes).repeat(counts)
    centers = random.normal(size=(classes, 8)) * random.uniform(0.1, 0.8) + random.uniform(0, 3)
    rows = (centers[labels] + random.normal(size=(len(labels), 8))).astype(np.float32)
    sides = np.arange(len(labels)) % 3 == 2  # of each class one row of three to validate on
    return [LabeledRows(_Rows(rows[side]), labels[side]) for side in (~sides, sides)]


def _best_loss(train, val):
    """What scikit-learn reaches on the whole grid."""
    features = [Normalizer().transform(part.rows.read()) for part in (train, val)]
    fits = [LogisticRegression(C=c, max_iter=300).fit(features[0], train.labels) for c in C_GRID]
    right = np.arange(len(val.labels)), np.searchsorted(fits[0].classes_, val.labels)
    return min(-np.log(fit.predict_proba(features[1])[right]).mean() for fit in fits)


def test_sweep__ends_in_the_valley_and_not_on_the_plateau_before_it(monkeypatch):
    monkeypatch.setattr("fastcls.training.heads.logreg.build_head", MagicMock())
    draws = [_draw(seed) for seed in range(100)]
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings(), config_context(**QUICK):
        warnings.simplefilter("ignore")  # fits that are cut short are no better
        fitted = [fit_logreg(L2, train, val, train.labels.max() + 1) for train, val in draws]
        best = [_best_loss(train, val) for train, val in draws]
    assert np.max([head.best["val_loss"] for head in fitted] - np.array(best)) < 0.02
    assert sum(len(head.history) for head in fitted) < 95 * len(C_GRID)  # something is saved


def test_refit__is_scikit_learns_on_all_rows_and_figures_are_of_the_head_before(make_cache):
    cache, _, _ = make_cache(300, spread=0.2)
    before, trained = train_head(cache, LOGREG), train_head(cache, HeadSpec("logreg"))
    timeless = [[{**row, "seconds": 0} for row in head.history] for head in (before, trained)]
    assert timeless[0] == timeless[1] and (before.refit_count, trained.refit_count) == (0, 270)
    chosen = select(cache, TrainConfig())
    rows = np.concatenate([part.rows.read() for part in (chosen.train, chosen.val)]).astype(float)
    labels = np.concatenate([chosen.train.labels, chosen.val.labels])
    tight = LogisticRegression(C=trained.best["c"], tol=1e-9, max_iter=20000).fit(rows, labels)
    np.testing.assert_allclose(trained.model.predict(rows, verbose=0), tight.predict_proba(rows), atol=1e-3)
    assert np.abs(before.model.predict(rows, verbose=0) - tight.predict_proba(rows)).max() > 1e-2


def test_several_labels__are_scikit_learns_one_vs_rest(multi_label_cache):
    cache, _, _ = multi_label_cache
    trained = train_head(cache, LOGREG)
    chosen = select(cache, TrainConfig())
    rows, val = (part.rows.read().astype(float) for part in (chosen.train, chosen.val))
    fits = [
        LogisticRegression(C=trained.best["c"], tol=1e-9, max_iter=20000).fit(rows, column)
        for column in chosen.train.labels.T
    ]
    expected = np.stack([fit.predict_proba(val)[:, 1] for fit in fits], axis=1)
    np.testing.assert_allclose(trained.model.predict(val, verbose=0), expected, atol=1e-3)
    assert trained.best["val_auroc"] == pytest.approx(roc_auc_score(chosen.val.labels, expected), abs=1e-3)
    assert trained.best["val_loss"] == min(row["val_loss"] for row in trained.history)


def test_several_labels__thresholds_are_of_the_head_before_the_refit(multi_label_cache):
    cache, _, _ = multi_label_cache
    assert train_head(cache, HeadSpec("logreg")).thresholds == train_head(cache, LOGREG).thresholds


def test_without_validation__held_out_rows_choose_and_all_rows_are_fitted(make_cache):
    cache, _, _ = make_cache(200, spread=0.2)
    trained = train_head(cache, HeadSpec("logreg"), TrainConfig(val=0.0))
    train = select(cache, TrainConfig(val=0.0)).train
    rows, labels = train.rows.read().astype(float), train.labels
    splits = make_splits(train, np.eye(3)[labels])
    for row in trained.history:
        found = np.empty((len(labels), 3))
        for own, held in splits:
            fit = LogisticRegression(C=row["c"], tol=1e-9, max_iter=20000).fit(rows[own], labels[own])
            found[held] = fit.predict_proba(rows[held])
        assert row["cv_loss"] == pytest.approx(log_loss(labels, found), abs=1e-3)
    assert trained.best == min(trained.history, key=lambda row: row["cv_loss"])
    tight = LogisticRegression(C=trained.best["c"], tol=1e-9, max_iter=20000).fit(rows, labels)
    np.testing.assert_allclose(trained.model.predict(rows, verbose=0), tight.predict_proba(rows), atol=1e-3)


def test_without_validation__one_image_per_class_is_enough():
    train = LabeledRows(_Rows(np.eye(3, dtype=np.float32)), np.arange(3))
    fitted = fit_logreg(LOGREG, train, None, 3)
    assert fitted.best["c"] == DEFAULT_C
    assert fitted.model.predict(np.eye(3), verbose=0).argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_make_splits__holds_each_row_out_once_and_leaves_each_class_behind(seed):
    random = np.random.default_rng(seed)
    classes, images = int(random.integers(2, 6)), int(random.integers(10, 40))
    labels = random.permutation(np.concatenate([np.arange(classes), random.integers(classes, size=images)]))
    groups = random.integers(len(labels), size=len(labels))
    data = LabeledRows(None, labels.repeat(2), 2, groups=groups)
    splits = make_splits(data, np.eye(classes)[data.labels])
    held = np.concatenate([held for _, held in splits])
    assert len(set(held.tolist())) == len(held)
    for own, out in splits:
        assert sorted([*own, *out]) == list(range(len(data)))
        assert set(data.labels[own]) == set(range(classes))
        apart = set(groups.repeat(2)[own]) & set(groups.repeat(2)[out])
        kept = {label for label in range(classes) if len(set(groups[labels == label])) < 5}
        assert all(set(labels[groups == group]) & kept for group in apart)


def test_train_head__gradients_go_on_from_logreg(make_cache):
    cache, _, _ = make_cache(spread=0.2)
    start = train_head(cache, L2)
    with pytest.raises(OptionError, match="keeps its kind and layers"):
        train_head(cache, LOGREG, start=start)
    further = train_head(cache, None, TrainConfig(epochs=2, learning_rate=1e-5), start=start)
    assert further.spec == HeadSpec("linear", bottleneck_norm="l2")
    assert further.history[0]["val_loss"] == pytest.approx(start.best["val_loss"], rel=1e-3)

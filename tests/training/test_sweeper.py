"""The linear probe: scikit-learn's optimum, chosen on validation, as one softmax layer."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import Normalizer

from fastcls.errors import OptionError
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training import feeder
from fastcls.training.selector import select
from fastcls.training.sweeper import C_GRID
from fastcls.training.trainer import train_head

LOGREG = HeadSpec("logreg")


@pytest.mark.parametrize(
    ("shape", "classes", "norm"), [((16,), 2, "none"), ((16,), 5, "l2"), ((2, 3, 8), 5, "none")]
)
def test_sweep__each_value_reaches_an_independent_tight_fit(make_cache, shape, classes, norm):
    cache, _, _ = make_cache(300, shape=shape, classes=classes, spread=0.2)
    trained = train_head(cache, HeadSpec("logreg", norm=norm))
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


def test_sweep__refuses_what_does_not_fit_into_memory(make_cache, monkeypatch):
    monkeypatch.setattr(feeder, "allowed_memory", lambda: 1000)
    with pytest.raises(OptionError, match=r"logreg needs all bottlenecks in memory.*--head linear"):
        train_head(make_cache()[0], LOGREG)


def test_train_head__logreg_needs_validation_rows(make_cache):
    with pytest.raises(OptionError, match=r"val=0\..*--val 0\.2"):
        train_head(make_cache()[0], LOGREG, TrainConfig(val=0.0))


def test_train_head__gradients_go_on_from_logreg(make_cache):
    cache, _, _ = make_cache(spread=0.2)
    start = train_head(cache, HeadSpec("logreg", norm="l2"))
    with pytest.raises(OptionError, match="give no other head"):
        train_head(cache, LOGREG, start=start)
    further = train_head(cache, None, TrainConfig(epochs=2, learning_rate=1e-5), start=start)
    assert further.spec == HeadSpec(norm="l2")
    assert further.history[0]["val_loss"] == pytest.approx(start.best["val_loss"], rel=1e-3)

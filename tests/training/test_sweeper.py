"""The linear probe: scikit-learn's optimum, chosen on validation, as one softmax layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fastcls.errors import OptionError
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training import feeder
from fastcls.training.selector import select
from fastcls.training.sweeper import C_GRID
from fastcls.training.trainer import train_head

LBFGS = TrainConfig("lbfgs")


@pytest.mark.parametrize("shape", [(16,), (2, 3, 4)])
@pytest.mark.parametrize("classes", [2, 5])
def test_sweep__each_value_reaches_an_independent_tight_fit(make_cache, shape, classes):
    cache, _, _ = make_cache(300, shape=shape, classes=classes, spread=0.2)
    trained = train_head(cache, None, LBFGS)
    chosen = select(cache, LBFGS)
    train, val = (
        part.rows.read().reshape(len(part), -1).astype(float) for part in (chosen.train, chosen.val)
    )
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
    trained = train_head(cache, None, LBFGS)
    values = [row["c"] for row in trained.history]
    assert values == list(C_GRID[: len(values)]) and len(values) < len(C_GRID)
    assert trained.best == min(trained.history, key=lambda row: row["val_loss"])
    assert trained.history.index(trained.best) == len(values) - 3
    val = select(cache, LBFGS).val
    assert len(trained.model.get_weights()) == 2
    probabilities = trained.model.predict(val.rows.read(), verbose=0)
    assert log_loss(val.labels, probabilities) == pytest.approx(trained.best["val_loss"], abs=1e-5)
    again = train_head(cache, None, replace(LBFGS, seed=7))
    for one, other in zip(trained.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_sweep__refuses_what_does_not_fit_into_memory(make_cache, monkeypatch):
    monkeypatch.setattr(feeder, "allowed_memory", lambda: 1000)
    with pytest.raises(OptionError, match=r"all bottlenecks in memory.*--optimizer adam"):
        train_head(make_cache()[0], None, LBFGS)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"epochs": 5}, "No effect with the optimizer lbfgs: epochs"),
        ({"learning_rate": 0.1, "patience": 0}, "learning_rate, patience"),
        ({"val": 0.0}, "--val 0.2"),
        ({"optimizer": "newton"}, "Choose one of: SGD, Adam, AdamW, .*, lbfgs"),
    ],
)
def test_train_config__refuses_what_lbfgs_cannot_use(given, complaint):
    with pytest.raises(OptionError, match=complaint):
        replace(LBFGS, **given)


def test_train_head__lbfgs_fits_a_new_linear_head_only(make_cache):
    cache, _, _ = make_cache()
    for head, start in ((HeadSpec((8,)), None), (None, train_head(cache, None, LBFGS))):
        with pytest.raises(OptionError, match=r"one softmax layer from nothing.*--optimizer adam"):
            train_head(cache, head, LBFGS, start=start)

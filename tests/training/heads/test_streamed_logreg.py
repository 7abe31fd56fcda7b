"""Logistic regression of a cache that is larger than memory: the same minimum, in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import Normalizer

from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.head_trainer import train_head
from fastcls.training.heads import logreg
from fastcls.training.heads.regression_rows import StreamedRows
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import select

LOGREG, REFIT = HeadSpec("logreg", refit=False), HeadSpec("logreg")
BLOCK = 64 * 90


@pytest.fixture
def stream(monkeypatch):
    """Lets nothing but a sample stay in memory; returns a list that counts the passes."""
    passes = []
    plain = StreamedRows.blocks

    def count(self):
        passes.append(len(self))
        return plain(self)

    monkeypatch.setattr(feeder, "allowed_memory", lambda: 8000)  # 41 rows are sampled
    monkeypatch.setattr(logreg, "C_GRID", (1e-3, 0.03, 1.0))
    monkeypatch.setattr(feeder, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(StreamedRows, "blocks", count)
    return passes


def loss_of(rows, labels, kernel, bias, c):
    """What scikit-learn minimizes, by C N."""
    logits = rows @ kernel + bias
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(rows)), labels]
    return losses.mean() + (kernel**2).sum() / (2 * c * len(rows))


@pytest.mark.parametrize(
    ("shape", "classes", "norm"), [((16,), 3, "none"), ((16,), 5, "l2"), ((2, 3, 8), 5, "none")]
)
def test_fit__reaches_scikit_learns_minimum(make_cache, stream, shape, classes, norm):
    cache, _, _ = make_cache(400, shape=shape, classes=classes, spread=0.2)
    trained = train_head(cache, HeadSpec("logreg", bottleneck_norm=norm))
    chosen = select(cache, TrainConfig())
    assert set(stream) == {len(chosen.train), len(chosen.val), len(chosen.train) + len(chosen.val)}
    rows, val = (
        part.rows.read().astype(float).mean(axis=tuple(range(1, len(shape))))
        for part in (chosen.train, chosen.val)
    )
    if norm == "l2":
        rows, val = (Normalizer().transform(part) for part in (rows, val))
    for row in trained.history:
        tight = LogisticRegression(C=row["c"], tol=1e-9, max_iter=20000).fit(rows, chosen.train.labels)
        expected = log_loss(chosen.train.labels, tight.predict_proba(rows))
        assert row["loss"] == pytest.approx(expected, abs=1e-3)
    rows, labels = np.concatenate([rows, val]), np.concatenate([chosen.train.labels, chosen.val.labels])
    c = trained.best["c"]
    tight = LogisticRegression(C=c, tol=1e-9, max_iter=20000).fit(rows, labels)
    own = loss_of(rows, labels, *(np.float64(weights) for weights in trained.model.get_weights()), c)
    assert own == pytest.approx(loss_of(rows, labels, tight.coef_.T, tight.intercept_, c), rel=1e-6)


def test_fit__is_the_one_in_memory(make_cache, stream, monkeypatch):
    cache, rows, _ = make_cache(400, spread=0.2)
    for spec, config in ((LOGREG, TrainConfig()), (REFIT, TrainConfig()), (REFIT, TrainConfig(val=0.0))):
        streamed = train_head(cache, spec, config)
        with monkeypatch.context() as patched:
            patched.setattr(feeder, "allowed_memory", lambda: 1 << 30)
            kept = train_head(cache, spec, config)
        assert [row["c"] for row in streamed.history] == [row["c"] for row in kept.history]
        assert streamed.best["c"] == kept.best["c"]
        for own, its in zip(streamed.history, kept.history, strict=True):
            losses = [name for name in own if name.endswith("loss")]
            assert [own[name] for name in losses] == pytest.approx([its[name] for name in losses], abs=1e-3)
        both = [head.model.predict(rows, verbose=0) for head in (streamed, kept)]
        np.testing.assert_allclose(*both, atol=1e-3)


def test_fit__of_several_labels_is_one_vs_rest(multi_label_cache, stream):
    cache, _, _ = multi_label_cache
    trained = train_head(cache, HeadSpec("logreg"))
    assert stream
    chosen = select(cache, TrainConfig())
    rows, labels = (
        np.concatenate([each(part) for part in (chosen.train, chosen.val)])
        for each in (lambda part: part.rows.read().astype(float), lambda part: part.labels)
    )
    fits = [
        LogisticRegression(C=trained.best["c"], tol=1e-9, max_iter=20000).fit(rows, own) for own in labels.T
    ]
    expected = np.stack([fit.predict_proba(rows)[:, 1] for fit in fits], axis=1)
    np.testing.assert_allclose(trained.model.predict(rows, verbose=0), expected, atol=1e-3)


def test_sweep__reads_all_rows_a_few_tens_of_times(make_cache, stream):
    trained = train_head(make_cache(400, spread=0.2)[0], LOGREG)
    fits = len(trained.history) + 1  # the chosen one is finished
    assert len(stream) < 16 * fits


FIT = """
import sys, tracemalloc
from unittest.mock import MagicMock
from fastcls.cache.store import Cache
from fastcls.specs import HeadSpec, TrainConfig
from fastcls.training.heads import logreg, regression
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import select

available = int(sys.argv[2])
chosen = select(Cache(sys.argv[1]), TrainConfig())
feeder.allowed_memory = lambda: available // 4
feeder.BLOCK_BYTES = available // 16
logreg.C_GRID = (0.1,)
logreg.build_head = MagicMock()  # Keras takes memory that does not grow
regression._ITERATIONS = 2
logreg.fit_logreg(HeadSpec("logreg", refit=False), chosen.train, chosen.val, 3)  # its imports do not count
tracemalloc.start()
logreg.fit_logreg(HeadSpec("logreg", refit=False), chosen.train, chosen.val, 3)
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory__is_bounded_by_what_is_allowed(make_cache):
    count, width = 10_000, 512
    cache, available = make_cache(count, shape=(width,), shard=2000)[0], 4 * count * width // 10
    # A process of its own: what other tests have left running counts in this one.
    command = [sys.executable, "-c", FIT, str(cache.folder), str(available)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < available

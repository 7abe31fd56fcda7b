"""A head trained from the cache: as good as scikit-learn's, repeatable, best epoch kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from fastcls.errors import OptionError
from fastcls.specs import HEADS, HeadSpec, LossSpec, TrainConfig
from fastcls.training import head_trainer as trainer
from fastcls.training.head_trainer import train_head
from fastcls.training.loop import optimization
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.selection import select

QUICK = TrainConfig(epochs=4, learning_rate=0.01)


def test_train_head__reaches_logistic_regression(make_cache):
    cache, _, _ = make_cache(600)
    chosen = select(cache, TrainConfig())
    rows, labels = chosen.train.rows.read(), chosen.train.labels
    reference = LogisticRegression(C=np.inf, max_iter=5000, tol=1e-8).fit(rows, labels)
    config = TrainConfig(epochs=150, learning_rate=0.02, batch_size=420, val=0.0)
    trained = train_head(cache, None, replace(config, loss=LossSpec(l2=0.0)))
    ours = log_loss(labels, trained.model.predict(rows, verbose=0))
    best = log_loss(labels, reference.predict_proba(rows))
    assert best <= ours + 1e-6 and ours - best < 0.02


def test_train_head__same_seed_same_head(make_cache):
    cache, _, _ = make_cache()
    spec = HeadSpec(layers=(8, 0.5))
    one, other, third = (
        train_head(cache, spec, replace(QUICK, seed=seed)).model.get_weights() for seed in (5, 5, 6)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, third, strict=True))


def test_train_head__keeps_the_epoch_of_the_lowest_validation_loss(make_cache):
    cache, _, _ = make_cache(60, spread=0.2)
    trained = train_head(
        cache, HeadSpec(layers=(64,)), TrainConfig(epochs=60, learning_rate=0.02, patience=5)
    )
    losses = [row["val_loss"] for row in trained.history]
    assert trained.best["epoch"] == 1 + int(np.argmin(losses))
    assert len(losses) == trained.best["epoch"] + 5 < 60
    val = select(cache, TrainConfig()).val
    trained.model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = trained.model.evaluate(val.rows.read(), val.labels, verbose=0)
    assert loss == pytest.approx(min(losses), rel=1e-5)
    assert accuracy == pytest.approx(trained.best["val_accuracy"])


def test_train_head__without_patience_never_stops_early(make_cache):
    cache, _, _ = make_cache(60, spread=0.2)
    trained = train_head(cache, None, TrainConfig(epochs=30, learning_rate=0.3, patience=0))
    assert len(trained.history) == 30
    assert trained.best["epoch"] < 30


def test_train_head__without_validation_keeps_the_last_epoch(make_cache):
    trained = train_head(make_cache()[0], None, replace(QUICK, val=0.0))
    assert trained.best["epoch"] == len(trained.history) == 4
    assert set(trained.history[0]) == {"epoch", "loss", "accuracy", "learning_rate", "seconds"}
    assert trained.val_count == 0


def test_train_head__goes_on_from_a_trained_head(make_cache):
    cache, _, _ = make_cache()
    first = train_head(cache, HeadSpec(layers=(8,)), replace(QUICK, epochs=30))
    before = first.best["val_loss"]
    further = train_head(cache, None, replace(QUICK, epochs=2, learning_rate=1e-4), start=first)
    assert further.history[0]["val_loss"] == pytest.approx(before, rel=0.05)


def test_train_head__refuses_to_go_on_with_other_classes_or_bottlenecks(make_cache):
    cache, _, _ = make_cache()
    start = train_head(cache, None, QUICK)
    with pytest.raises(OptionError, match=r"takes bottlenecks of \(16,\), the cache holds \(4,\)"):
        train_head(make_cache(shape=(4,))[0], None, QUICK, start=start)
    with pytest.raises(OptionError, match="has the classes class 0, class 1, class 2;"):
        train_head(make_cache(classes=4, seed=1)[0], None, QUICK, start=start)
    with pytest.raises(OptionError, match="keeps its kind and layers"):
        train_head(cache, HeadSpec(layers=(8,)), QUICK, start=start)


@pytest.mark.parametrize("kind", [name for name, kind in HEADS.items() if kind.fit])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"epochs": 5}, "--epochs has"),
        ({"optimizer": "SGD", "batch_size": 8}, "--optimizer, --batch-size have"),
        ({"learning_rate": 0.1, "patience": 0}, "--learning-rate, --patience have"),
        ({"schedule": "cosine", "loss": LossSpec(l2=0.1)}, "--schedule, --l2 have"),
    ],
)
def test_train_head__a_fitted_head_takes_nothing_of_gradients(make_cache, kind, given, named):
    with pytest.raises(OptionError, match=f"{named} no effect with --head {kind}. Remove"):
        train_head(make_cache()[0], HeadSpec(kind), TrainConfig(**given))


@pytest.mark.parametrize("kind", ["prototype", "knn"])
def test_train_head__does_not_go_on_from_what_has_no_gradient(make_cache, kind):
    cache, _, _ = make_cache()
    with pytest.raises(OptionError, match=f"A head of kind {kind} cannot be trained further"):
        train_head(cache, None, QUICK, start=train_head(cache, HeadSpec(kind)))


def test_train_head__batch_normalization_learns_the_rows_it_saw(make_cache):
    cache, _, _ = make_cache(600)
    rows = select(cache, QUICK).train.rows.read()
    trained = train_head(cache, HeadSpec(bottleneck_norm="batch"), replace(QUICK, epochs=40, val=0.0))
    norm = next(layer for layer in trained.model.layers if "normalized" in layer.name)
    gamma, beta, mean, variance = norm.get_weights()
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=0.2)
    assert abs(gamma - 1).max() > 0.01 and abs(beta).max() > 0.01


def test_train_head__stops_when_the_loss_is_not_a_number(make_cache):
    config = replace(QUICK, epochs=20, learning_rate=1e30)
    with pytest.raises(OptionError, match=r"in epoch 1 \(step 2\)\. Lower the learning rate"):
        train_head(make_cache()[0], HeadSpec(layers=(64, 64)), config)
    with pytest.raises(OptionError, match=r"in epoch 1 \(validation\)\. Lower the learning rate"):
        train_head(make_cache()[0], HeadSpec(layers=(64, 64)), replace(config, batch_size=1000))


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_train_head__keeps_the_best_when_the_loss_is_not_a_number_later(
    make_cache, monkeypatch, caplog, memory_bytes
):
    cache, _, _ = make_cache(300)
    chosen = select(cache, QUICK)
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 64)  # two batches of 16 floats
    streaming = type("Streaming", (trainer.Feeder,), {})
    monkeypatch.setattr(
        trainer,
        "Feeder",
        lambda *arguments, **options: streaming(*arguments, memory_bytes=memory_bytes, **options),
    )
    # 210 rows are 7 steps: in the 5th of epoch 3 the rate is infinite, the 6th finds out.
    monkeypatch.setattr(optimization.Rate, "at", _breaks_at_step(2 * 7 + 4))
    trained = train_head(cache, None, replace(QUICK, epochs=6))
    assert "in epoch 3 (step 6). Training stopped; keeping epoch 2" in caplog.text
    assert len(trained.history) == 2 and trained.best["epoch"] == 2
    trained.model.compile(loss="sparse_categorical_crossentropy")
    loss = trained.model.evaluate(chosen.val.rows.read(), chosen.val.labels, verbose=0)
    assert loss == pytest.approx(trained.best["val_loss"], rel=1e-5)


def _breaks_at_step(place):
    def at(rate, step):
        from keras import ops

        return ops.where(ops.cast(step, "int64") == place, float("inf"), 0.01)

    return at


@pytest.mark.parametrize("options", [{"sampling": "balanced"}, {"views": 3, "batch_size": 7}], ids=str)
def test_train_head__one_seed_gives_one_head_from_memory_and_from_shards(make_cache, monkeypatch, options):
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 96)  # 96 rows of 16 floats
    monkeypatch.setattr(feeder, "_RUN_BYTES", 64 * 5)
    cache = make_cache(300, spread=0.3, views=options.get("views", 1))[0]
    head, config = HeadSpec(layers=(8, 0.3)), TrainConfig(epochs=3, learning_rate=0.01, **options)
    kept = train_head(cache, head, config)
    monkeypatch.setattr(feeder, "allowed_memory", lambda: 0)
    streamed = train_head(cache, head, config)
    for one, other in zip(kept.model.get_weights(), streamed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    timeless = [[{**row, "seconds": 0} for row in trained.history] for trained in (kept, streamed)]
    assert timeless[0] == timeless[1]


def test_train_head__writes_tensorboard_scalars(make_cache, tmp_path):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    trained = train_head(make_cache()[0], None, QUICK, folder=tmp_path)
    seen = {}
    for run in ("train", "validation"):
        (file,) = (tmp_path / "tensorboard" / run).iterdir()
        for record in tf.data.TFRecordDataset(str(file)):
            for value in event_pb2.Event.FromString(record.numpy()).summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                seen.setdefault((run, value.tag), []).append(float(tf.make_ndarray(value.tensor)))
    metrics = {(run, f"epoch_{name}") for run in ("train", "validation") for name in ("loss", "accuracy")}
    assert set(seen) == metrics | {("train", "epoch_learning_rate")}
    assert seen["train", "epoch_learning_rate"] == pytest.approx([0.01] * 4)
    assert seen["validation", "epoch_loss"] == pytest.approx([row["val_loss"] for row in trained.history])


def test_train_head__takes_the_name_of_a_head(make_cache):
    cache, _, _ = make_cache()
    assert train_head(cache, "knn").spec == HeadSpec("knn")
    with pytest.raises(OptionError, match="Unknown head: 'near'"):
        train_head(cache, "near")

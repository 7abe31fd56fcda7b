"""Heads of several labels per image: the loss that is minimized, the epoch that is kept, the thresholds."""

from __future__ import annotations

import functools
import itertools
from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss, roc_auc_score
from training_support import write_listing

from fastcls.backend import import_keras
from fastcls.errors import CacheError, DataError, OptionError
from fastcls.specs import CheckpointSpec, HeadSpec, LogSpec, LossSpec, OptimizerSpec, TrainConfig
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS, TASKS
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.network import build_head
from fastcls.training.loop.losses import class_weights
from fastcls.training.loop.objectives import build_loss
from fastcls.training.loop.thresholds import best_f1, best_single, choose_thresholds
from fastcls.training.rows.sampling import balanced_places
from fastcls.training.rows.selection import select

SPECS = [
    LossSpec(l2=0.0),
    LossSpec(label_smoothing=0.2, l2=0.01),
    LossSpec(class_weight="balanced", l2=0.0),
    LossSpec(class_weight="balanced", class_weight_multiplier=0.5, label_smoothing=0.1, l2=0.0),
    LossSpec(class_weight="log", class_weight_multiplier=2.0, l2=0.0),
]
CONFIG = TrainConfig(OptimizerSpec("SGD"), epochs=1, batch_size=1000, learning_rate=0.5)
QUICK = TrainConfig(epochs=4, learning_rate=0.01)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_train_head__minimizes_the_loss_by_the_gradient_of_numpy(multi_label_cache, spec, sampling):
    cache, _, _ = multi_label_cache
    config = replace(CONFIG, loss=spec, sampling=sampling)
    trained = train_head(cache, None, config)
    import_keras().utils.set_random_seed(config.seed)
    kernel, bias = build_head(HeadSpec(), (16,), 3, task=SEVERAL_LABELS).get_weights()
    chosen = select(cache, config)
    rows, targets = chosen.train.rows.read(), chosen.train.labels.astype(float)
    factors = _weights(spec, targets)
    if sampling == "balanced":
        drawn = balanced_places(
            SEVERAL_LABELS.pools(chosen.train.labels),
            len(chosen.train),
            np.random.default_rng((config.seed, 1)),
        )
        rows, targets = rows[drawn], targets[drawn]

    before = _sigmoid(rows @ kernel + bias)
    elements = np.where(targets, factors, 1.0)
    smooth = targets * (1 - spec.label_smoothing) + spec.label_smoothing / 2
    entropies = -elements * (smooth * np.log(before) + (1 - smooth) * np.log(1 - before))
    expected = entropies.mean() + spec.l2 * (kernel**2).sum()
    assert trained.history[0]["loss"] == pytest.approx(expected, rel=1e-5)

    slope = elements * (before - smooth) / targets.size
    after = trained.model.get_weights()
    np.testing.assert_allclose(after[0], kernel - 0.5 * (rows.T @ slope + 2 * spec.l2 * kernel), atol=1e-5)
    np.testing.assert_allclose(after[1], bias - 0.5 * slope.sum(0), atol=1e-5)

    val = chosen.val.labels
    probabilities = _sigmoid(chosen.val.rows.read() @ after[0] + after[1])
    plain = np.mean([log_loss(val[:, c], probabilities[:, c], labels=[0, 1]) for c in range(3)])
    assert trained.history[0]["val_loss"] == pytest.approx(plain, rel=1e-5)
    assert trained.history[0]["val_auroc"] == pytest.approx(roc_auc_score(val, probabilities))


def test_class_weights__count_having_a_class():
    weights = functools.partial(class_weights, task=SEVERAL_LABELS)
    targets = np.array([[1, 0, 1]] * 2 + [[0, 1, 1]] * 1 + [[0, 0, 1]] * 97, np.uint8)
    np.testing.assert_allclose(weights("balanced", targets), [98 / 2, 99, 0], rtol=1e-6)
    np.testing.assert_allclose(weights("balanced", targets, 0.1), [4.9, 9.9, 0], rtol=1e-6)
    np.testing.assert_allclose(weights("log", targets), np.log([7.5, 15, np.e]), rtol=1e-6)
    np.testing.assert_allclose(weights("log", targets, 1.0), np.log([50, 100, np.e]), rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_build_loss__focal_is_that_of_keras(smoothing):
    losses = import_keras().losses
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, (50, 4)).astype(np.float32)
    probabilities = random.uniform(0.01, 0.99, (50, 4)).astype(np.float32)
    head = build_head(HeadSpec(), (16,), 4, task=SEVERAL_LABELS)
    spec = LossSpec(name="binary_focal_crossentropy", label_smoothing=smoothing)
    expected = losses.binary_focal_crossentropy(targets, probabilities, label_smoothing=smoothing)
    np.testing.assert_allclose(
        build_loss(spec, head, targets, SEVERAL_LABELS)(targets, probabilities), expected, rtol=1e-5
    )

    labels, shares = targets.argmax(axis=1), probabilities / probabilities.sum(axis=1, keepdims=True)
    spec = LossSpec(name="categorical_focal_crossentropy", label_smoothing=smoothing)
    expected = losses.categorical_focal_crossentropy(np.eye(4)[labels], shares, label_smoothing=smoothing)
    np.testing.assert_allclose(build_loss(spec, head, labels)(labels, shares), expected, rtol=1e-5)


def test_train_head__keeps_the_epoch_of_the_highest_area(multi_label_cache):
    cache, _, _ = multi_label_cache
    trained = train_head(
        cache, HeadSpec(layers=(32,)), TrainConfig(epochs=40, learning_rate=0.05, patience=6)
    )
    areas = [row["val_auroc"] for row in trained.history]
    losses = [row["val_loss"] for row in trained.history]
    assert trained.best["epoch"] == 1 + int(np.argmax(areas)) != 1 + int(np.argmin(losses))
    assert len(areas) == trained.best["epoch"] + 6 or len(areas) == 40
    val = select(cache, TrainConfig()).val
    area = roc_auc_score(val.labels, trained.model.predict(val.rows.read(), verbose=0))
    assert area == pytest.approx(max(areas))
    assert set(trained.history[0]) == {"epoch", "loss", "val_loss", "val_auroc", "learning_rate", "seconds"}


def test_train_head__thresholds_come_from_validation(multi_label_cache):
    cache, _, _ = multi_label_cache
    val = select(cache, TrainConfig()).val
    assert train_head(cache, None, replace(QUICK, threshold=0.3)).thresholds == (0.3,) * 3
    for kind in (None, "single", "per-class"):
        trained = train_head(cache, None, replace(QUICK, threshold=kind))
        scores = trained.model.predict(val.rows.read(), verbose=0)
        expected = choose_thresholds(kind or "single", val.labels, scores, trained.class_names)
        assert trained.thresholds == pytest.approx(expected, abs=1e-6)
    assert train_head(cache, None, replace(QUICK, val=0.0)).thresholds == (0.5,) * 3


def test_best_single__no_threshold_matches_more_images():
    random = np.random.default_rng(0)
    for _ in range(50):
        targets = random.integers(0, 2, (12, 3))
        scores = random.choice([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0], (12, 3)).astype(np.float32)
        edges = np.unique([*scores.ravel(), 0, 1])
        tried = [*edges[1:], *(edges[:-1] + edges[1:]) / 2]

        def matches(threshold, targets=targets, scores=scores):
            return ((scores >= threshold) == targets).all(axis=1).sum()

        found = best_single(targets, scores)
        assert 0 < found <= 1
        assert matches(found) == max(map(matches, tried))


def test_best_f1__no_threshold_is_better():
    random = np.random.default_rng(1)
    for _ in range(50):
        target = random.integers(0, 2, 15)
        target[0] = 1
        scores = random.choice([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0], 15).astype(np.float32)
        tried = [*np.unique(scores[scores > 0]), 1e-3, 0.3, 0.6, 1.0]
        best = max(f1_score(target, scores >= threshold, zero_division=0) for threshold in tried)
        assert f1_score(target, scores >= best_f1(target, scores), zero_division=0) == pytest.approx(best)


def test_choose_thresholds__a_class_that_nobody_has(caplog):
    targets = np.array([[1, 0], [0, 0], [1, 0]])
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.8, 0.2]])
    assert choose_thresholds("per-class", targets, scores, ("a", "b")) == pytest.approx((0.5, 0.5))
    assert "No validation image has the class b" in caplog.text


@pytest.mark.parametrize("count", [10, 100, 1001])
def test_balanced_places__each_class_as_often(count):
    random = np.random.default_rng(0)
    labels = np.concatenate([[0], [1] * 3, np.full(count - 4, 2)])
    places = balanced_places(ONE_LABEL.pools(labels), count, random)
    drawn = np.bincount(labels[places])
    assert len(places) == count and np.ptp(drawn) <= 1

    targets = np.zeros((count, 2), np.uint8)
    targets[:2, 0] = targets[1:5, 1] = 1  # the second has both, most have none
    places = balanced_places(SEVERAL_LABELS.pools(targets), count, random)
    unlabeled = (~targets[places].any(axis=1)).sum()
    assert len(places) == count and abs(unlabeled - count / 3) < 1
    for column in targets.T:
        assert column[places].sum() >= count // 3


@pytest.mark.parametrize("memory_bytes", [None, 0])
def test_feeder__draws_classes_equally_often_from_memory_or_shards(make_cache, monkeypatch, memory_bytes):
    from fastcls.training.rows import cached as feeder

    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 37)
    cache, features, labels = make_cache(300)
    labels = np.where(np.arange(300) % 30 < 2, labels, 2)
    rows = zip(cache.samples(), labels, strict=True)
    write_listing(cache, [replace(row, labels=(f"class {label}",)) for row, label in rows], task=ONE_LABEL)
    data = select(cache, TrainConfig()).train
    known = {row.tobytes(): label for row, label in zip(features, labels, strict=True)}

    def epoch(number):
        fed = feeder.Feeder(data, 32, 1, memory_bytes, balanced=True).blocks(number)
        blocks = [(np.asarray(rows)[order], np.asarray(found)[order]) for rows, found, order in fed]
        return np.concatenate([rows for rows, _ in blocks]), np.concatenate([found for _, found in blocks])

    rows, found = epoch(1)
    assert np.bincount(found).tolist() == [70, 70, 70]
    assert [known[row.tobytes()] for row in rows] == found.tolist()
    np.testing.assert_array_equal(rows, epoch(1)[0])
    assert not np.array_equal(rows, epoch(2)[0])


def test_build_loss__a_sure_mistake_is_still_learned_from():
    import tensorflow as tf

    targets = np.array([[1, 0], [0, 1]], np.float32)
    loss = build_loss(
        LossSpec(class_weight="balanced"), build_head(HeadSpec(), (16,), 2), targets, SEVERAL_LABELS
    )
    logits = tf.constant([[-40.0, 40.0], [0.0, 0.0]])

    @tf.function
    def gradient(logits):
        return tf.gradients(tf.reduce_mean(loss(targets, tf.sigmoid(logits))), logits)[0]

    np.testing.assert_allclose(gradient(logits), (np.asarray(tf.sigmoid(logits)) - targets) / 4, rtol=1e-6)


def test_checkpoints__of_better_areas_are_kept_and_know_their_labels(multi_label_cache, tmp_path):
    from fastcls.pipeline import load_head

    cache, _, _ = multi_label_cache
    records = CheckpointSpec(checkpoint_every=1, checkpoint_keep=99, checkpoint_best_only=True)
    config = TrainConfig(epochs=12, learning_rate=0.1, checkpoints=records)
    trained = train_head(cache, None, config, folder=tmp_path)
    kept = sorted((tmp_path / "checkpoints").iterdir())
    areas = [row["val_auroc"] for row in trained.history]
    better = [epoch for epoch in range(1, 13) if areas[epoch - 1] > max([0, *areas[: epoch - 1]])]
    assert [path.stem for path in kept] == [f"epoch-{epoch:04}" for epoch in better] != []
    assert better[-1] == trained.best["epoch"]
    further = train_head(cache, None, QUICK, start=load_head(kept[-1]))
    assert further.task is SEVERAL_LABELS and further.class_names == ("class 0", "class 1", "class 2")


def test_train_head__goes_on_only_with_heads_of_several_labels(multi_label_cache, make_cache):
    cache, _, _ = multi_label_cache
    first = train_head(cache, None, QUICK)
    further = train_head(cache, None, replace(QUICK, learning_rate=1e-5), start=first)
    assert further.history[0]["val_loss"] == pytest.approx(first.best["val_loss"], rel=0.01)
    single, _, _ = make_cache(seed=1)
    with pytest.raises(OptionError, match=r"predicts several labels per image, the cache has one label"):
        train_head(single, None, QUICK, start=first)
    with pytest.raises(OptionError, match=r"predicts one label per image, the cache has several labels"):
        train_head(cache, None, QUICK, start=train_head(single, None, QUICK))


def test_train_head__refuses_what_has_no_meaning(multi_label_cache, make_cache, tmp_path):
    cache, _, _ = multi_label_cache
    for kind in ("prototype", "knn"):
        with pytest.raises(OptionError, match=f"head {kind} supports one label per image, not several"):
            train_head(cache, HeadSpec(kind), TrainConfig())
    for given in ({"checkpoints": CheckpointSpec(min_accuracy=0.5)}, {"logs": LogSpec(confusion_every=1)}):
        with pytest.raises(OptionError, match="has no effect with several labels per image"):
            train_head(cache, None, replace(QUICK, **given))
    with pytest.raises(
        OptionError, match=r"does not fit data with several labels.*Choose one of: binary_crossentropy"
    ):
        train_head(cache, None, replace(QUICK, loss=LossSpec(name="categorical_crossentropy")))
    single, _, _ = make_cache(seed=1)
    with pytest.raises(
        OptionError, match=r"does not fit data with one label.*Choose one of: categorical_crossentropy"
    ):
        train_head(single, None, replace(QUICK, loss=LossSpec(name="binary_crossentropy")))
    with pytest.raises(OptionError, match="--threshold has no effect with one label"):
        train_head(single, None, replace(QUICK, threshold=0.4))
    multiplied = LossSpec(class_weight="balanced", class_weight_multiplier=2.0)
    with pytest.raises(OptionError, match=r"--class-weight-multiplier .* has no effect with one label"):
        train_head(single, None, replace(QUICK, loss=multiplied))


@pytest.mark.parametrize(("activation", "task"), [("softmax", SEVERAL_LABELS), ("sigmoid", ONE_LABEL)])
def test_build_head__a_function_must_end_with_what_fits(tmp_path, activation, task):
    file = tmp_path / "own.py"
    file.write_text(
        "import keras\n\n\ndef head(bottleneck, classes):\n"
        f"    return keras.layers.Dense(classes, activation={activation!r})(bottleneck)\n"
    )
    spec = HeadSpec(f"{file}:head")
    with pytest.raises(
        OptionError, match=f"must return probabilities of {task} per image: end it with a {task.activation}"
    ):
        build_head(spec, (16,), 3, task=task)
    (other,) = {*TASKS.values()} - {task}
    build_head(spec, (16,), 3, task=other)


def test_select__refuses_classes_without_image_and_a_damaged_table(multi_label_cache):
    cache, _, _ = multi_label_cache
    rows = cache.samples()
    given = [replace(row, labels=("only",)) for row in rows]
    write_listing(cache, given, task=SEVERAL_LABELS)
    with pytest.raises(DataError, match=r"at least two classes.*only"):
        select(cache, TrainConfig())
    test = [replace(row, labels=("a", "rare") if row.split == "test" else ("a", "b")) for row in rows]
    write_listing(cache, test, task=SEVERAL_LABELS)
    with pytest.raises(DataError, match="No images to train on for: rare"):
        select(cache, TrainConfig())
    write_listing(cache, [replace(row, labels=("a", "b")) for row in rows], task=SEVERAL_LABELS)
    with pytest.raises(DataError, match="No class has validation images both with and without it"):
        train_head(cache, None, QUICK)
    table = cache.listing.samples_path
    table.write_text(table.read_text().replace('"[""a"", ""b""]"', "a", 1))
    with pytest.raises(CacheError, match="damaged"):
        select(cache, TrainConfig())


def test_train_head__a_plateau_is_one_of_the_monitor(multi_label_cache):
    from fastcls.tasks import AUROC, LOSS
    from fastcls.training.loop.optimization import Rate

    config = TrainConfig(schedule="plateau", epochs=20)
    rows = [{"val_loss": 1 / (1 + n), "val_auroc": 0.9} for n in range(8)]  # only the loss gets better
    levels = {}
    for monitor in (LOSS, AUROC):
        rate = Rate(config, 10, monitor)
        for row in rows:
            rate.watch(row)
        levels[monitor] = float(rate.at(0))
    assert levels[LOSS] == pytest.approx(1e-3) and levels[AUROC] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"threshold": 0.0}, "above 0 and at most 1. Received: 0.0"),
        ({"threshold": "best"}, "a number or one of single, per-class"),
        ({"threshold": "single", "val": 0.0}, "needs validation images. Received: val=0"),
        ({"sampling": "even"}, "Choose one of: uniform, balanced"),
    ],
)
def test_train_config__refuses(given, complaint):
    with pytest.raises(OptionError, match=complaint):
        TrainConfig(**given)


def test_specs__come_back_from_a_run():
    loss = LossSpec(class_weight="log", class_weight_multiplier=0.3, name="binary_focal_crossentropy")
    for threshold, sampling in itertools.product((None, 0.25, "per-class"), ("uniform", "balanced")):
        config = TrainConfig(loss=loss, threshold=threshold, sampling=sampling)
        assert TrainConfig(**asdict(config)) == config


def _weights(spec, targets):
    count, having = len(targets), targets.sum(axis=0)
    if spec.class_weight == "none":
        return np.ones(3)
    if spec.class_weight == "balanced":
        return (spec.class_weight_multiplier or 1) * (count - having) / having
    return np.maximum(1, np.log((spec.class_weight_multiplier or 0.15) * count / having))


def _sigmoid(scores):
    return 1 / (1 + np.exp(-scores))

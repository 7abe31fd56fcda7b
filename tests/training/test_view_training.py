"""Views of an image in a training: one per epoch, plain ones to validate on, all for a fit in one go."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from training_support import write_listing

from fastcls.cache.samples import Failure
from fastcls.data.views import row_key
from fastcls.errors import CacheError, OptionError
from fastcls.specs import HeadSpec, LossSpec, TrainConfig, ViewSpec
from fastcls.training.head_trainer import train_head
from fastcls.training.loop.losses import class_weights
from fastcls.training.rows import cached as feeder
from fastcls.training.rows.cached import Feeder
from fastcls.training.rows.selection import select


def number_of(rows):
    """Which view each row is, as the cache's maker marks them."""
    return np.rint(rows.reshape(len(rows), -1).mean(axis=1) / 10).astype(int)


def test_select__takes_all_views_of_each_image_to_train_on_and_plain_ones_to_validate(make_cache):
    cache, features, labels = make_cache(views=3)
    chosen = select(cache, TrainConfig())
    train = np.array([row.split for row in cache.samples()]) == "train"
    assert (chosen.train.views, chosen.train.images, len(chosen.train)) == (3, train.sum(), 3 * train.sum())
    np.testing.assert_array_equal(chosen.train.labels, labels[train].repeat(3))
    rows = chosen.train.rows.read()
    np.testing.assert_array_equal(number_of(rows), np.tile(range(3), train.sum()))
    np.testing.assert_allclose(rows[2::3], features[train] + 20, atol=1e-5)
    assert chosen.val.views == 1 and not number_of(chosen.val.rows.read()).any()
    carved = select(cache, TrainConfig(val=0.25)).val
    assert carved.views == 1 and not number_of(carved.rows.read()).any()


def test_select__takes_as_many_views_as_asked_for(make_cache):
    cache, features, _ = make_cache(views=3)
    assert set(number_of(select(cache, TrainConfig(views=2)).train.rows.read())) == {0, 1}
    plain = select(cache, TrainConfig(views=1)).train
    train = np.array([row.split for row in cache.samples()]) == "train"
    np.testing.assert_array_equal(plain.rows.read(), features[train])
    with pytest.raises(
        CacheError,
        match=r"has only 3 of the 5 requested views .*--views 5 --augment flip=.* --view-seed 0 to add",
    ):
        select(cache, TrainConfig(views=5))
    with pytest.raises(
        CacheError,
        match=r"has only 1 of the 2 requested views .*--views 2 to add the others, or train with --views 1",
    ):
        select(make_cache(seed=1)[0], TrainConfig(views=2))
    with pytest.raises(OptionError, match="views must be 1 or more"):
        TrainConfig(views=0)


def test_select__views_that_are_not_there_make_a_cache_partial(make_cache):
    cache, _, _ = make_cache(views=2)
    write_listing(cache, views=ViewSpec(3))
    with pytest.raises(
        CacheError, match=r"partial: 84 of 120 images have no bottleneck yet of one of their 3"
    ):
        select(cache, TrainConfig())
    assert select(cache, TrainConfig(views=2)).train.images == 84
    first = cache.samples()[0]
    assert cache.index().locate([row_key(first.digest, ViewSpec(2), 1)]).present.all()
    write_listing(cache, None, [Failure(row.path, row.digest, "a view is bad") for row in cache.samples()])
    chosen = select(cache, TrainConfig(views=2))
    assert chosen.train.images == 84  # failures of other views do not matter
    write_listing(cache, None, [])
    next(cache.shards_folder.glob("*.h5")).unlink()
    some = select(cache, TrainConfig(views=2, allow_partial=True)).train
    assert 0 < some.images < 84 and len(some) == 2 * some.images


@pytest.fixture(params=["memory", "streamed"])
def options(request, monkeypatch):
    if request.param == "memory":
        return {}
    monkeypatch.setattr(feeder, "BLOCK_BYTES", 64 * 37)  # 37 rows of 16 floats
    monkeypatch.setattr(feeder, "_RUN_BYTES", 64 * 5)
    return {"memory_bytes": 0}


def test_blocks__an_epoch_takes_one_view_of_each_image(make_cache, options):
    cache, _, _ = make_cache(100, views=4)
    data = select(cache, TrainConfig()).train
    plain = {row.tobytes(): place for place, row in enumerate(data.rows.read())}
    fed, other = Feeder(data, 32, seed=1, **options), Feeder(data, 32, seed=1, **options)
    taken = np.zeros((data.images, 4), int)
    for epoch in range(1, 101):
        rows, labels = _epoch(fed, epoch)
        places = np.array([plain[row.tobytes()] for row in rows])
        assert sorted(places // 4) == list(range(data.images))
        np.testing.assert_array_equal(labels, data.labels[places])
        taken[places // 4, places % 4] += 1
    assert (taken.sum(axis=0) / taken.sum()).round(2).tolist() == pytest.approx([0.25] * 4, abs=0.02)
    assert taken.min() >= 5 and taken.max() <= 50  # of 100 epochs, for each of 70 images
    np.testing.assert_array_equal(rows, _epoch(other, 100)[0])
    assert not np.array_equal(rows, _epoch(Feeder(data, 32, seed=2, **options), 100)[0])


def test_blocks__in_order_takes_the_plain_views(make_cache, options):
    data = select(make_cache(100, views=3)[0], TrainConfig()).train
    np.testing.assert_array_equal(_epoch(Feeder(data, 32, None, **options))[0], data.rows.read()[::3])


def test_train_head__counts_images_once(make_cache):
    cache, _, _ = make_cache(views=3)
    loss = LossSpec(class_weight="balanced")
    trained = train_head(cache, None, TrainConfig(epochs=2, loss=loss))
    assert (trained.train_count, trained.val_count, trained.config.views) == (84, 24, 3)
    assert train_head(cache, None, TrainConfig(epochs=1, views=1)).config.views == 1
    labels = [select(cache, TrainConfig(views=views)).train.labels for views in (1, 3)]
    for kind in ("balanced", "log"):
        np.testing.assert_array_equal(*(class_weights(kind, each) for each in labels))


def test_train_head__heads_fitted_in_one_go_take_all_views(make_cache):
    cache, _, _ = make_cache(views=2, spread=0.2)
    chosen = select(cache, TrainConfig())
    rows, labels, val = chosen.train.rows.read(), chosen.train.labels, chosen.val
    fitted = {kind: train_head(cache, HeadSpec(kind)) for kind in ("logreg", "prototype", "knn")}
    assert {(head.train_count, head.val_count) for head in fitted.values()} == {(84, 24)}
    best = fitted["logreg"].best
    probe = LogisticRegression(C=best["c"], tol=1e-9, max_iter=20000).fit(rows, labels)
    assert best["loss"] == pytest.approx(log_loss(labels, probe.predict_proba(rows)), abs=5e-3)
    expected = log_loss(val.labels, probe.predict_proba(val.rows.read()))
    assert best["val_loss"] == pytest.approx(expected, abs=2e-2)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    (kernel,) = [weights for weights in fitted["knn"].model.get_weights() if len(weights) == 16]
    np.testing.assert_allclose(kernel, (rows / lengths).T, atol=1e-6)
    means = np.stack([(rows / lengths)[labels == label].mean(axis=0) for label in range(3)])
    kernel = fitted["prototype"].model.get_weights()[0]
    cosines = (
        (kernel.T * means).sum(axis=1) / np.linalg.norm(kernel.T, axis=1) / np.linalg.norm(means, axis=1)
    )
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def _epoch(fed, epoch=1):
    blocks = [
        (np.asarray(rows)[order], np.asarray(labels)[order]) for rows, labels, order in fed.blocks(epoch)
    ]
    return np.concatenate([rows for rows, _ in blocks]), np.concatenate([labels for _, labels in blocks])

"""Images unlike the training images are told by the Mahalanobis distance of their bottlenecks."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from fastcls.specs import TrainConfig
from fastcls.training.familiarity import Familiarity, describe, fit_familiarity
from fastcls.training.heads.fitting import at_unit_length
from fastcls.training.rows.selection import LabeledRows, select


def spread(count=300, width=12, classes=3, seed=0):
    """Rows about the means of their classes, with a covariance that is not round."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    means = random.normal(size=(classes, width)) + 3
    rows = means[labels] + random.normal(size=(count, width)) @ random.normal(size=(width, width)) * 0.3
    return rows.astype(np.float32), labels


def test_the_distance_is_that_to_the_nearest_class_mean_with_a_shared_shrunk_covariance():
    rows, labels = spread()
    pools = [np.flatnonzero(labels == label) for label in range(3)]
    found = describe(rows, pools, 3)
    unit = at_unit_length(rows).astype(np.float64)
    means = np.stack([unit[pool].mean(axis=0) for pool in pools])
    covariance, _ = ledoit_wolf(unit - means[labels], assume_centered=True)
    others = at_unit_length(np.random.default_rng(1).normal(size=(50, 12)).astype(np.float32)).astype(float)
    away = others[:, None] - means
    expected = np.sqrt(np.einsum("nmd,de,nme->nm", away, np.linalg.inv(covariance), away).min(axis=1))
    np.testing.assert_allclose(found.score(others), expected, rtol=2e-3)
    np.testing.assert_allclose(found.score(others * 7), found.score(others), rtol=1e-4)  # of any length


def test_an_image_of_several_classes_spreads_about_the_nearest_of_their_means():
    rows, labels = spread()
    both = [np.flatnonzero(labels == label) for label in range(3)]
    both[0] = np.sort(np.concatenate([both[0], both[1][:5]]))
    found = describe(rows, both, 3)
    assert found.means.shape == (3, 12)
    assert np.isfinite(found.score(rows)).all()


@pytest.mark.parametrize("rows", [np.ones((40, 6)), np.zeros((40, 6)), np.eye(40, 6)])
def test_rows_without_any_spread_have_distances(rows):
    found = describe(rows.astype(np.float32), [np.arange(20), np.arange(20, 40)], 2)
    assert np.isfinite(found.score(rows.astype(np.float32))).all()


def test_few_images_of_many_classes_have_one_mean():
    rows, _ = spread(count=20)
    assert len(describe(rows, [np.array([place]) for place in range(20)], 20).means) == 1


@pytest.mark.parametrize("val", [None, 0])
def test_of_new_images_about_one_in_twenty_is_beyond_the_limit(make_cache, val):
    cache, features, _ = make_cache(3000, shard=3000)
    found = fit_familiarity(select(cache, TrainConfig(val=val)))
    new = features[9::10]  # the test part
    assert np.mean(found.score(new) > 1) == pytest.approx(0.05, abs=0.045)
    assert np.mean(found.score(-new) > 1) > 0.5
    assert found.judged == pytest.approx(600 if val is None else 420, rel=0.03)


def test_the_limit_comes_from_images_that_had_no_part_in_means_and_variances(make_cache):
    """In more dimensions than images, each image is near what it was counted in."""
    cache, features, _ = make_cache(200, shape=(400,))
    chosen = select(cache, TrainConfig())
    found = fit_familiarity(chosen)
    assert np.mean(found.score(features[9::10]) > 1) < 0.3
    assert np.quantile(found.score(chosen.train.rows.read()), 0.95) < 0.95


def test_maps_are_averaged_and_views_are_left_out(make_cache):
    cache, _, _ = make_cache(120, shape=(2, 2, 5), views=2)
    found = fit_familiarity(select(cache, TrainConfig()))
    assert found.means.shape[1] == 5
    plain, _ = cache.read("test")
    assert found.score(plain.reshape(len(plain), 4, 5).mean(axis=1)).shape == (len(plain),)


def test_too_few_images_have_no_limit(make_cache):
    for count in (9, 16):
        cache, _, _ = make_cache(count)
        assert fit_familiarity(select(cache, TrainConfig(val=0))) is None


def part_of(data, places):
    return LabeledRows(data.rows.take(places), data.labels[places], 1, data.task)


@pytest.mark.parametrize("kept", ["few", "copies"])
def test_few_or_copied_validation_images_do_not_make_new_ones_unfamiliar(make_cache, kept):
    cache, features, _ = make_cache(400, shape=(40,))
    chosen = select(cache, TrainConfig())
    whole = fit_familiarity(chosen)
    val = part_of(chosen.val, np.arange(3)) if kept == "few" else part_of(chosen.train, np.arange(60))
    found = fit_familiarity(replace(chosen, val=val))
    assert found.judged > 100
    new = features[9::10]
    assert np.mean(found.score(new) > 1) < 0.15
    assert found.limit == pytest.approx(whole.limit, rel=0.2)


def test_it_comes_back_from_its_file(make_cache):
    cache, features, _ = make_cache()
    found = fit_familiarity(select(cache, TrainConfig()))
    again = Familiarity.from_bytes(found.to_bytes())
    np.testing.assert_array_equal(again.score(features), found.score(features))
    assert again.told == found.told

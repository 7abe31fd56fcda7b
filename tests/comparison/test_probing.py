"""The probe: the same folds and images for all caches, and what scikit-learn would have predicted."""

import numpy as np
import pytest
from cache_support import write_cache
from sklearn.linear_model import LogisticRegression

from fastcls.comparison.probing import CommonImages, probe
from fastcls.errors import DataError
from fastcls.specs.comparing import ProbeSpec


def cache(root, *, seed=0, spread=1.0, images=90, **given):
    random = np.random.default_rng(seed)
    labels = np.arange(images) % 3
    rows = (np.eye(3)[labels] + random.normal(0, spread, (images, 3))).astype(np.float32)
    names = [(("a", "b", "c")[label],) for label in labels]
    return write_cache(root, rows, names, **given), rows, labels


def test_probe__predicts_each_image_as_a_fit_of_the_other_folds_does(tmp_path):
    known, rows, labels = cache(tmp_path)
    images = CommonImages.of([known], ProbeSpec(folds=3, repeats=2))
    found = probe(known, images)
    places = [int(path[:4]) for path in images.paths]
    ranked, tested = places[: images.count], places[images.count :]
    assert sorted(tested) == [place for place in range(90) if place % 10 == 9] and images.test_count == 9
    for folds, outcome in zip(images.folds, found.outcomes, strict=True):
        expected = np.empty((images.count, 3))
        for fold in range(3):
            own, held = (np.array(ranked)[chosen] for chosen in (folds != fold, folds == fold))
            fit = LogisticRegression(C=found.c, max_iter=1000, tol=1e-8).fit(rows[own], labels[own])
            expected[folds == fold] = fit.predict_proba(rows[held])
        assert outcome.probabilities == pytest.approx(expected, abs=5e-3)
    fit = LogisticRegression(C=found.c, max_iter=1000, tol=1e-8).fit(rows[ranked], labels[ranked])
    assert found.test.probabilities == pytest.approx(fit.predict_proba(rows[tested]), abs=5e-3)


def test_probe__labels_of_test_images_change_nothing_but_their_own_figures(tmp_path):
    names = [(("a", "b")[place % 2],) for place in range(60)]
    other = [own if place % 10 != 9 else ("a",) for place, own in enumerate(names)]
    rows = np.random.default_rng(0).normal(size=(60, 4)) + np.arange(60)[:, None] % 2
    found = []
    for place, own in enumerate((names, other)):
        known = write_cache(tmp_path / str(place), rows, own)
        found.append(probe(known, CommonImages.of([known], ProbeSpec())))
    assert np.array_equal(found[0].outcomes[0].probabilities, found[1].outcomes[0].probabilities)
    assert found[0].c == found[1].c and not np.array_equal(found[0].test.hits, found[1].test.hits)


def test_common_images__are_those_that_all_caches_have(tmp_path):
    one, _, _ = cache(tmp_path / "one", absent=[4, 5])
    other, _, _ = cache(tmp_path / "other", seed=1, absent=[6], splits=["test"] * 10 + ["train"] * 80)
    images = CommonImages.of([one, other], ProbeSpec())
    assert len(images.paths) == 87 and not {"0004.png", "0006.png"} & {*images.paths}
    # For testing in either of them is for testing.
    tests = {int(path[:4]) for path in images.paths[images.count :]}
    assert tests == {place for place in range(90) if place < 10 or place % 10 == 9} - {4, 5, 6}


def test_common_images__identical_ones_and_those_of_a_group_are_held_out_together(tmp_path):
    digests = [f"{place // 2:032x}" for place in range(90)]
    rows = np.random.default_rng(0).normal(size=(90, 3))
    names = [(("a", "b", "c")[place // 2 % 3],) for place in range(90)]
    groups = ["g" if place < 12 else "" for place in range(90)]
    known = write_cache(tmp_path, rows, names, digests=digests, groups=groups, splits=["train"] * 90)
    folds = CommonImages.of([known], ProbeSpec(folds=4)).folds[0]
    assert np.array_equal(folds[::2], folds[1::2]) and len({*folds[:12]}) == 1 and len({*folds}) == 4
    folds = CommonImages.of([known], ProbeSpec(folds=4, group=r"00(\d)")).folds[0]
    assert all(len({*folds[start : start + 10]}) == 1 for start in range(0, 90, 10))


def test_common_images__one_class_is_refused(tmp_path):
    known = write_cache(tmp_path, np.zeros((10, 2)), [("a",) if p % 10 < 9 else ("b",) for p in range(10)])
    with pytest.raises(DataError, match="9 images to rank bases by, of 1 classes"):
        CommonImages.of([known], ProbeSpec())

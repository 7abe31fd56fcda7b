"""Images to label are unsure, unlike what is labeled, and unlike each other."""

import numpy as np

from fastcls.evaluation.suggesting import choose_to_label
from fastcls.training.heads.fitting import at_unit_length


def test_choose__is_the_greedy_k_center_of_the_least_sure():
    random = np.random.default_rng(0)
    rows, labeled = (random.normal(size=(n, 6)).astype(np.float32) for n in (60, 9))
    margins = random.random(60)
    found = choose_to_label(rows, margins, labeled, 4)
    pool = np.argsort(margins)[:20]
    unit, centers = at_unit_length(rows), at_unit_length(labeled)
    np.testing.assert_array_equal(found.nearest, (unit[found.places] @ centers.T).argmax(axis=1))
    for place in found.places:
        likeness = (unit[pool] @ centers.T).max(axis=1)
        assert place == pool[likeness.argmin()]
        centers = np.vstack([centers, unit[place]])


def test_choose__takes_no_copies():
    rows = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2]]
    found = choose_to_label(rows, np.zeros(5), rows[4:], 5)
    assert sorted(rows[found.places].argmax(axis=1)) == [0, 1]
    assert not len(choose_to_label(rows[4:], np.zeros(1), rows[4:], 3).places)

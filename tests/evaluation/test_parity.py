"""Which images are compared, and what of a difference is a fault."""

import numpy as np
import pytest

from fastcls.evaluation.parity import BOUNDS, IMAGES, choose, compare
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def make(classes, images=400, seed=0):
    """Labels, and logits of a good classifier."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.standard_normal((images, classes))
    logits[np.arange(images), labels] += 5
    return labels, logits


@pytest.mark.parametrize("classes", [2, 5, 20, 32, 100])
def test_choose__takes_every_class_and_the_least_certain(classes):
    labels, logits = make(classes)
    rows = softmax(logits)
    chosen = choose(labels, rows, ONE_LABEL, None)
    assert len(set(chosen)) == IMAGES and chosen == choose(labels, rows, ONE_LABEL, None)
    if classes <= IMAGES:
        assert set(labels[chosen]) == set(range(classes))
    margins = np.sort(rows, axis=1)[:, -1] - np.sort(rows, axis=1)[:, -2]
    least = set(
        np.argsort(margins)[: IMAGES - max(IMAGES // 2, classes if classes <= IMAGES else 0)].tolist()
    )
    assert least <= set(chosen)


def test_choose__of_few_images_takes_all():
    labels, logits = make(3, images=7)
    assert sorted(choose(labels, softmax(logits), ONE_LABEL, None)) == list(range(7))
    targets = np.array([[0, 0], [1, 1], [1, 0]])
    assert sorted(choose(targets, np.full((3, 2), 0.4), SEVERAL_LABELS, (0.5, 0.5))) == [0, 1, 2]


def test_compare__another_prediction_within_rounding_is_no_fault():
    own = np.array([[0.501, 0.499], [0.9, 0.1]])
    cached = np.array([[0.4995, 0.5005], [0.9, 0.1]])
    fine = compare(cached, own, ONE_LABEL, None, ["float32"])
    assert (fine.agreeing, fine.overturned, fine.holds) == (1, 0, True)
    assert fine.largest_difference == pytest.approx(0.0015) and fine.mean_difference == pytest.approx(0.00075)
    clear = compare(cached[:, ::-1], own, ONE_LABEL, None, ["bfloat16"])
    assert (clear.overturned, clear.holds) == (1, False)


def test_compare__several_labels_are_judged_one_by_one():
    thresholds = (0.5, 0.2, 0.9)
    own = np.array([[0.5001, 0.9, 0.1], [0.1, 0.1, 0.1]])
    near = compare(own - [0.0002, 0, 0], own, SEVERAL_LABELS, thresholds, ["float32"])
    assert (near.agreeing, near.overturned, near.holds) == (1, 0, True)
    far = compare(own - [0, 0.8, 0], own, SEVERAL_LABELS, thresholds, ["int8"])
    assert (far.agreeing, far.overturned, far.holds) == (1, 1, False)


@pytest.mark.parametrize("precision", BOUNDS)
def test_compare__the_noise_of_a_precision_passes_and_a_fault_does_not(precision):
    labels, logits = make(5)
    own = softmax(logits)
    random = np.random.default_rng(1)
    noise = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 0.3, "int8": 0.3}[precision]
    rows = softmax(logits + noise * random.standard_normal(logits.shape))
    chosen = choose(labels, rows, ONE_LABEL, None)
    assert compare(rows[chosen], own[chosen], ONE_LABEL, None, ["float32", precision]).holds
    for order in ([1, 0, 2, 3, 4], [0, 1, 2, 4, 3], [1, 2, 3, 4, 0]):
        assert not compare(rows[chosen], own[chosen][:, order], ONE_LABEL, None, [precision]).holds
    other = softmax(make(5, seed=2)[1])
    assert not compare(rows[chosen], other[chosen], ONE_LABEL, None, [precision]).holds


def test_compare__the_coarser_type_decides():
    rows = np.array([[0.9, 0.1]])
    for types in (["float32", "float16"], ["float16", "float32"]):
        assert compare(rows, rows, ONE_LABEL, None, types).allowed_difference == BOUNDS["float16"][0]

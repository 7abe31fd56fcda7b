"""Several predictions of the same images: figures, intervals of differences, McNemar's test."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score

from fastcls.evaluation.paired import Outcome, figures_of, mcnemar, measure
from fastcls.evaluation.several_labels import evaluate_multi_label
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS


def several(seed, images=60, classes=4):
    """Labels, and probabilities with many ties."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (images, classes)).astype(np.uint8)
    probabilities = np.round(np.clip(random.normal(0.4 + 0.2 * labels, 0.2), 0, 1), 1)
    return labels, probabilities


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("odd", ["", "a class without images", "a class of all images"])
def test_figures__of_weighted_images_are_those_of_scikit_learn(seed, odd):
    labels, probabilities = several(seed)
    if odd:
        labels[:, 1] = odd == "a class of all images"
    weights = np.random.default_rng(seed + 9).poisson(1, (len(labels), 5)).astype(np.float64)
    outcome = Outcome.of(SEVERAL_LABELS, labels, probabilities)
    found = {figure.name: figure.of(outcome)(weights) for figure in figures_of(SEVERAL_LABELS)}
    ranked = [label for label in range(labels.shape[1]) if 0 < labels[:, label].sum() < len(labels)]
    named = [label for label in range(labels.shape[1]) if labels[:, label].any()]
    exact = ((probabilities >= 0.5) == labels).all(axis=1)
    for place, own in enumerate(weights.T):
        pairs = [(labels[:, label], probabilities[:, label]) for label in range(labels.shape[1])]
        areas = [roc_auc_score(*pairs[label], sample_weight=own) for label in ranked]
        precisions = [average_precision_score(*pairs[label], sample_weight=own) for label in named]
        assert found["mean_auroc"][place] == pytest.approx(np.mean(areas))
        assert found["mean_average_precision"][place] == pytest.approx(np.mean(precisions))
        assert found["exact_match"][place] == pytest.approx(np.average(exact, weights=own))


def test_measure__of_one_label_is_accuracy_with_the_interval_of_a_proportion():
    random = np.random.default_rng(0)
    labels, probabilities = random.integers(0, 3, 900), random.dirichlet(np.ones(3), 900)
    probabilities[np.arange(900), labels] += 0.3
    (figure,) = figures_of(ONE_LABEL)
    (own,) = measure([[Outcome.of(ONE_LABEL, labels, probabilities)]], figure)
    accuracy = accuracy_score(labels, probabilities.argmax(axis=1))
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / 900)
    assert own.estimate.value == pytest.approx(accuracy)
    assert (own.estimate.low, own.estimate.high) == pytest.approx(
        (accuracy - half, accuracy + half), abs=4e-3
    )
    assert (own.behind.value, own.behind.low, own.behind.high) == (0, 0, 0)


def test_measure__a_difference_on_the_same_images_is_known_better_than_each_figure():
    random = np.random.default_rng(1)
    best = random.random(1000) < 0.8
    worse = best & (random.random(1000) < 0.98)  # errs where the best errs, and now and then besides
    labels = np.zeros(1000, int)
    (figure,) = figures_of(ONE_LABEL)
    first, second = measure([[Outcome(labels, worse)], [Outcome(labels, best)]], figure)
    assert second.behind.value == 0 and first.behind.value == pytest.approx(worse.mean() - best.mean())
    assert first.behind.high < 0 and first.estimate.high > second.estimate.low
    half = 1.96 * np.std(worse.astype(float) - best) / math.sqrt(1000)
    assert first.behind.high - first.behind.low == pytest.approx(2 * half, rel=0.15)


def test_measure__repeats_are_averaged():
    labels, hits = np.zeros(4, int), np.array([[True, True, False, False], [True, True, True, True]])
    (figure,) = figures_of(ONE_LABEL)
    (own,) = measure([[Outcome(labels, each) for each in hits]], figure)
    assert own.estimate.value == 0.75


def test_figures__without_probabilities_are_those_of_decisions():
    assert [figure.name for figure in figures_of(SEVERAL_LABELS, with_probabilities=False)] == ["exact_match"]
    assert figures_of(ONE_LABEL, with_probabilities=False) == figures_of(ONE_LABEL)


@pytest.mark.parametrize(("ours", "theirs"), [(9, 2), (2, 9), (3, 3), (0, 0), (0, 4), (700, 640)])
def test_mcnemar__is_the_exact_binomial_test_less_half_of_what_was_observed(ours, theirs):
    first = np.repeat([True, False, True, False], [ours, theirs, 5, 6])
    second = np.repeat([False, True, True, False], [ours, theirs, 5, 6])
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (ours, theirs)
    count = ours + theirs
    observed = math.comb(count, ours) / 2**count
    exact = binomtest(ours, count).pvalue if count else 1.0
    # With equal numbers the exact value is cut off at 1, and so is the mid-p.
    assert found.p == pytest.approx(exact - observed if ours != theirs else 1.0)


def test_mcnemar__a_table_of_the_literature():
    """Fagerland et al. 2013, table 1 (airway hyper-responsiveness): exact 0.070, mid-p 0.039."""
    first = np.repeat([True, False], [1, 7])
    assert mcnemar(first, ~first).p == pytest.approx(0.039, abs=5e-4)


def test_measure__has_the_intervals_that_a_test_of_the_same_predictions_has():
    labels, probabilities = several(3)
    tested = evaluate_multi_label(labels, probabilities, [0.5] * 4, "abcd")
    for figure in figures_of(SEVERAL_LABELS):
        (own,) = measure([[Outcome.of(SEVERAL_LABELS, labels, probabilities)]], figure)
        assert (own.estimate.low, own.estimate.high) == pytest.approx(tested.intervals[figure.name], abs=1e-6)

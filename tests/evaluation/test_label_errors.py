"""How likely labels are wrong, and how many."""

from __future__ import annotations

import numpy as np

from fastcls.evaluation.label_errors import count_errors, find_one_label, find_several_labels


def test_count_errors__is_that_of_the_paper_by_hand():
    # Thresholds: the mean of own probabilities, 0.6 and 0.55. Row 2 is confidently of the other class, row 4
    # of none; of 3 given first ones, 1 of 3 counted is wrong; of 2 second ones, 0 of 1 counted.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.58, 0.3]])
    labels = np.array([0, 0, 0, 1, 1])
    assert count_errors(probabilities, labels) == 1
    assert count_errors(np.eye(2)[labels], labels) == 0
    assert count_errors(np.eye(2)[1 - labels], labels) in (0, 5)  # nobody is confident, or all are wrong


def test_count_errors__follows_planted_noise():
    random = np.random.default_rng(0)
    true = random.integers(4, size=4000)
    labels = np.where(random.random(4000) < 0.1, (true + random.integers(1, 4, 4000)) % 4, true)
    probabilities = 0.85 * np.eye(4)[true] + 0.15 * random.dirichlet(np.ones(4), 4000)
    planted = int((labels != true).sum())
    assert abs(count_errors(probabilities, labels) - planted) < 0.1 * planted
    suspects = find_one_label(probabilities, labels, "abcd")
    assert {*suspects.suggested} <= {*np.flatnonzero(labels != true).tolist()}
    assert all(suspects.suggested[place] == ("abcd"[true[place]],) for place in suspects.suggested)
    assert suspects.scores[labels != true].min() > suspects.scores[labels == true].max()


def test_several_labels__each_class_is_looked_at_by_itself():
    random = np.random.default_rng(0)
    true = (random.random((600, 3)) < (0.5, 0.3, 0.2)).astype(np.uint8)
    probabilities = 0.9 * true + 0.1 * random.random((600, 3))
    probabilities[[3, 5, 7]] = true[[3, 5, 7]]  # confident where the labels are going to be wrong
    labels = true.copy()
    labels[3, 0], labels[5, 1], labels[7] = 1 - labels[3, 0], 1 - labels[5, 1], 1 - labels[7]
    suspects = find_several_labels(probabilities, labels, "abc")
    assert {*suspects.suggested} == {3, 5, 7}
    for place in (3, 5, 7):
        assert suspects.suggested[place] == tuple(np.array([*"abc"])[true[place] == 1])
    one = {0: "missing_label", 1: "superfluous_label"}
    assert suspects.kinds[3] == one[labels[3, 0]]
    assert suspects.kinds[5] == one[labels[5, 1]]
    ways = {*labels[7].tolist()}
    assert suspects.kinds[7] == ("label_error" if len(ways) > 1 else one[ways.pop()])

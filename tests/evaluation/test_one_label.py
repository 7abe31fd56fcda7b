import warnings

import numpy as np
import pytest

from fastcls.errors import DataError
from fastcls.evaluation.one_label import evaluate


def names(count):
    return [f"class {label}" for label in range(count)]


def random_predictions(image_count, class_count, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, class_count, image_count)
    logits = rng.normal(size=(image_count, class_count))
    logits[np.arange(image_count), labels] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def ratio(part, whole):
    return part / whole if whole else 0.0


def scores_by_hand(labels, predicted, label):
    hits = sum(t == label and p == label for t, p in zip(labels, predicted, strict=True))
    precision = ratio(hits, sum(p == label for p in predicted))
    recall = ratio(hits, sum(t == label for t in labels))
    return precision, recall, ratio(2 * precision * recall, precision + recall)


def top_k_by_hand(labels, probabilities, k):
    hits = 0
    for label, row in zip(labels, probabilities, strict=True):
        order = sorted(range(len(row)), key=lambda index: (-row[index], index))
        hits += label in order[:k]
    return hits / len(labels)


@pytest.mark.parametrize("class_count", [2, 3, 7, 30])
@pytest.mark.parametrize("image_count", [1, 20, 300])
def test_evaluate__equals_hand_computation(class_count, image_count):
    labels, probabilities = random_predictions(image_count, class_count, seed=class_count)
    evaluation = evaluate(labels, probabilities, names(class_count))
    predicted = [max(range(class_count), key=lambda index: row[index]) for row in probabilities]

    confusion = np.zeros((class_count, class_count), int)
    for true, guess in zip(labels, predicted, strict=True):
        confusion[true, guess] += 1
    np.testing.assert_array_equal(evaluation.confusion, confusion)

    scores = np.array([scores_by_hand(labels, predicted, label) for label in range(class_count)])
    np.testing.assert_allclose(np.stack([evaluation.precision, evaluation.recall, evaluation.f1], 1), scores)
    np.testing.assert_array_equal(evaluation.support, [sum(labels == label) for label in range(class_count)])

    averages = [evaluation.macro_precision, evaluation.macro_recall, evaluation.macro_f1]
    np.testing.assert_allclose(averages, scores[sorted(set(labels.tolist()))].mean(axis=0))
    assert evaluation.accuracy == pytest.approx(np.mean(np.array(predicted) == labels))
    assert evaluation.top_k == min(5, class_count)
    assert evaluation.top_k_accuracy == pytest.approx(top_k_by_hand(labels, probabilities, 5))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_evaluate__top_k_breaks_ties_as_the_accuracy_does(k):
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(0, 4, 200), rng.integers(0, 3, (200, 4)) / 4
    evaluation = evaluate(labels, probabilities, names(4), top_k=k)
    assert evaluation.top_k_accuracy == top_k_by_hand(labels, probabilities, k)
    assert k > 1 or evaluation.top_k_accuracy == evaluation.accuracy


def test_evaluate__permuting_the_classes_permutes_the_scores():
    labels, probabilities = random_predictions(200, 6, seed=1)
    order = np.random.default_rng(2).permutation(6)  # new label -> old label
    plain = evaluate(labels, probabilities, names(6))
    permuted = evaluate(np.argsort(order)[labels], probabilities[:, order], [names(6)[old] for old in order])
    np.testing.assert_array_equal(permuted.confusion, plain.confusion[np.ix_(order, order)])
    for scores in ("precision", "recall", "f1", "support"):
        np.testing.assert_array_equal(getattr(permuted, scores), getattr(plain, scores)[order])
    assert permuted.accuracy == plain.accuracy
    assert permuted.top_k_accuracy == plain.top_k_accuracy
    assert permuted.macro_f1 == pytest.approx(plain.macro_f1)


def test_evaluate__classes_that_do_not_occur():
    labels, probabilities = random_predictions(50, 3, seed=3)
    padded = np.zeros((50, 5), np.float32)
    padded[:, [0, 2, 4]] = probabilities
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate(labels * 2, padded, names(5))
    plain = evaluate(labels, probabilities, names(3))
    assert evaluation.support[[1, 3]].tolist() == [0, 0]
    assert evaluation.macro_f1 == pytest.approx(plain.macro_f1)
    assert evaluation.macro_recall == pytest.approx(plain.macro_recall)
    assert evaluation.accuracy == plain.accuracy


def test_evaluate__perfect_and_worst():
    labels = np.arange(8) % 4
    right, wrong = np.eye(4)[labels], np.eye(4)[(labels + 1) % 4]
    best, worst = evaluate(labels, right, names(4), top_k=1), evaluate(labels, wrong, names(4), top_k=1)
    for score in ("accuracy", "top_k_accuracy", "macro_precision", "macro_recall", "macro_f1"):
        assert (getattr(best, score), getattr(worst, score)) == (1.0, 0.0)
    np.testing.assert_array_equal(best.confusion, 2 * np.eye(4, dtype=int))


def test_evaluate__confusion_rows_are_true_classes():
    evaluation = evaluate(np.array([0, 0, 1]), np.array([[0.0, 1.0]] * 3), names(2))
    assert evaluation.confusion.tolist() == [[0, 2], [0, 1]]


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros((3, 1), int), np.ones((3, 2)), r"Received: \(3, 1\) and \(3, 2\)"),
        (np.zeros(3, int), np.ones((2, 2)), r"Received: \(3,\) and \(2, 2\)"),
        (np.zeros(3, int), np.ones((3, 4)), r"probabilities \(N, 2\)"),
        (np.zeros(0, int), np.ones((0, 2)), "no images"),
        (np.array([0, 2]), np.ones((2, 2)), r"0\.\.1. Received: 0\.\.2"),
        (np.array([0, -1]), np.ones((2, 2)), r"Received: -1\.\.0"),
        (np.array([0, 1]), np.array([[0.5, 0.5], [np.nan, 0.5]]), "NaN"),
        (["cat", "dog"], np.ones((2, 2)), r"Labels must be an array of integers. Received: \['cat', 'dog'\]"),
        ([0.0, 1.0], np.ones((2, 2)), r"Labels must be an array of integers. Received: \[0\.0, 1\.0\]"),
        ([[0], [0, 1]], np.ones((2, 2)), "Labels must be an array of integers"),
        (None, np.ones((2, 2)), "Labels must be an array of integers. Received: None"),
        ([0, 1], [["a", "b"]] * 2, "Probabilities must be an array of numbers"),
        ([0, 1], [[0.5, 0.5], [1.0]], "Probabilities must be an array of numbers"),
    ],
)
def test_evaluate__refuses(labels, probabilities, message):
    with pytest.raises(DataError, match=message):
        evaluate(labels, probabilities, names(2))


def test_table__of_few_classes():
    labels = np.array([0, 0, 0, 1, 1])
    predicted = np.array([0, 0, 1, 1, 0])
    table = evaluate(labels, np.eye(3)[predicted], ["rose", "花", "none"]).table()
    assert table == (
        "class          precision  recall     F1  AUROC     AP  images\n"
        "rose               0.667   0.667  0.667  0.583  0.644       3\n"
        "花                 0.500   0.500  0.500  0.583  0.450       2\n"
        "none                   -       -      -      -      -       0\n"
        "macro average      0.583   0.583  0.583  0.583  0.547       5\n"
        "\n"
        "rows: true class, columns: predicted class\n"
        "      rose  花  none\n"
        "rose     2   1     0\n"
        "花       1   1     0\n"
        "none     0   0     0\n"
        "\n"
        "predictions of at least a probability\n"
        "threshold  images  coverage  precision  recall\n"
        "0.50            5     1.000      0.600   0.600\n"
        "0.70            5     1.000      0.600   0.600\n"
        "0.90            5     1.000      0.600   0.600\n"
        "0.95            5     1.000      0.600   0.600\n"
        "0.99            5     1.000      0.600   0.600\n"
        "\n"
        "accuracy 0.600 [0.200, 1.000] (3 of 5 images)\n"
        "balanced accuracy 0.583 [0.125, 1.000], macro F1 0.583 [0.167, 1.000],\n"
        "weighted F1 0.600 [0.133, 1.000]\n"
        "AUROC 0.583 [0.125, 1.000], average precision 0.547 [0.456, 1.000]\n"
        "log loss 14.417 [0.000, 28.835], Brier score 0.800 [0.000, 1.600], ECE 0.400\n"
        "in brackets: 95 % bootstrap intervals over the images\n"
        "1 of 3 classes without images, left out of means: none"
    )


def test_table__confusion_has_numbers_in_brackets_where_names_do_not_fit():
    table = evaluate(np.arange(11), np.eye(11), [f"{10**9 + label}" for label in range(11)]).table()
    head, first, *_, last = table.split("\n\n")[1].splitlines()[1:]
    assert head.split() == [f"[{label}]" for label in range(11)]
    assert first.split() == ["[0]", "1000000000", "1", *"0" * 10]
    assert last.startswith("[10] 1000000010 ") and len(last) <= 80


def test_table__of_many_classes_lists_the_most_confused():
    labels = np.repeat(np.arange(30), 4)
    predicted = labels.copy()
    predicted[:3], predicted[4] = 7, 9
    table = evaluate(labels, np.eye(30)[predicted], names(30)).table()
    pairs = table.split("\n\n")[1].splitlines()
    assert [line.split() for line in pairs[2:]] == [
        ["class", "0", "class", "7", "3", "of", "4"],
        ["class", "1", "class", "9", "1", "of", "4"],
    ]
    totals = table.split("\n\n")[-1]
    assert totals.startswith("accuracy 0.967 [0.933, 0.992] (116 of 120 images),\ntop-5 accuracy")
    assert all(len(line) <= 80 for line in table.splitlines())


def test_table__of_many_classes_without_errors():
    table = evaluate(np.arange(30), np.eye(30), names(30)).table()
    assert "no image was misclassified" in table

"""Each rule of the advice speaks where it should, in these words, and is silent otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from fastcls.report.advice import RULES, Findings, advise

NAMES = ("glass", "metal", "plastic", "trash")
QUIET = Findings(
    class_names=NAMES,
    trained=np.array([200, 200, 200, 200]),
    tested=np.array([50, 50, 50, 50]),
    recall=np.array([0.9, 0.9, 0.9, 0.9]),
    confusion=np.diag([50, 50, 50, 50]),
)


def found(**changes):
    return Findings(**{**vars(QUIET), **changes})


def confusion(**counts):
    matrix = np.diag([50, 50, 50, 50])
    for pair, count in counts.items():
        row, column = map(NAMES.index, pair.split("_"))
        matrix[row, column] = count
        matrix[row, row] -= count
    return matrix


# What is found, by rule, and what is said of it.
CASES = {
    "seen_images": ({"seen": 1}, ["1 test image was used in training or validation"]),
    "leaked_images": ({"leaks": 3}, ["3 pairs of images in different splits are nearly the same"]),
    "wrong_labels": ({"label_errors": 23}, ["23 labels may be wrong"]),
    "weak_classes": (
        {"recall": np.array([0.8, 0.8, 0.8, 0.4]), "trained": np.array([200, 210, 220, 82])},
        ["Class trash has 82 images and half the recall of the others (40 % against 80 %): add images"],
    ),
    "small_classes": (
        {"trained": np.array([200, 200, 20, 60])},
        ["plastic (20), trash (60) have less than half as many images as the median class (130)"],
    ),
    "confused_classes": (
        {"confusion": confusion(metal_plastic=6, plastic_metal=4, glass_trash=9)},
        [
            "metal and plastic are confused both ways (6 of 50 and 4 of 50 images)",
            "9 of 50 images of glass are taken for trash",
        ],
    ),
    "more_images": ({"curve": "Twice the images would bring about +1.3 points."}, ["about +1.3 points"]),
    "miscalibrated": (
        {"calibration": 0.16, "overconfidence": 0.07},
        ["The confidence is higher than the share of right answers (expected calibration error 16 %)"],
    ),
    "wide_interval": (
        {"interval": (0.7, 0.9), "headline": "accuracy"},
        ["With 200 test images, the accuracy is known to within about 10 points only"],
    ),
    "useful_threshold": (
        {"thresholds": {"threshold": 0.8, "coverage": 0.72, "precision": 0.95}},
        ["at least 80 % confidence count, 72 % of the images get one, and 95 % of these are right"],
    ),
    "unreadable_images": ({"unreadable": 2}, ["2 images could not be read"]),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule__speaks_of_its_own_finding_alone(rule):
    changes, expected = CASES[rule.__name__]
    said = [advice.text for advice in rule(found(**changes))]
    assert [each.replace(" %", "\u00a0%") in text for each, text in zip(expected, said, strict=True)] == [
        True
    ] * len(said)
    assert advise(QUIET) == []
    if rule.__name__ != "small_classes":
        assert [advice.text for advice in advise(found(**changes))] == said


def test_weak_classes__with_enough_images_are_to_be_looked_at():
    (advice,) = advise(found(recall=np.array([0.9, 0.9, 0.9, 0.6])))
    assert "lower recall than the others (60 % against 90 %): look at its mistakes" in advice.text.replace(
        "\u00a0", " "
    )


def test_small_classes__what_is_weak_is_said_once():
    said = advise(found(trained=np.array([200, 200, 200, 20]), recall=np.array([0.9, 0.9, 0.9, 0.4])))
    assert len(said) == 1 and "trash has 20 images" in said[0].text


def test_advice__of_low_confidence():
    assert "confidence is lower" in advise(found(calibration=0.2, overconfidence=-0.1))[0].text
    assert advise(found(calibration=0.1, overconfidence=-0.1)) == []  # of 200 images, that is chance


@pytest.mark.parametrize("classes", [0, 1, 2])
def test_advice__of_next_to_nothing_is_none(classes):
    nothing = np.zeros(classes)
    assert not advise(
        Findings(NAMES[:classes], nothing, nothing, np.full(classes, np.nan), np.zeros((classes, classes)))
    )

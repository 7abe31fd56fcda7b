"""The parts of a report, each against a computation by hand or by scikit-learn."""

from __future__ import annotations

import base64
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix
from sklearn.neighbors import NearestNeighbors

from fastcls.report import facts, neighbors
from fastcls.report.counts import CONFUSIONS, COUNTS, SHOWN_CLASSES
from fastcls.report.page import json_text, render
from fastcls.report.projection import FILE, project
from fastcls.report.thumbnails import KINDS, make_thumbnails
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("block", [1 << 26, 1 << 10])
def test_nearest__are_those_of_scikit_learn(monkeypatch, block):
    monkeypatch.setattr(neighbors, "_BLOCK_BYTES", block)
    queries, rows = RANDOM.normal(size=(7, 16)), RANDOM.normal(size=(90, 16))
    places, cosines = neighbors.nearest(queries.astype(np.float32), rows.astype(np.float32))
    distances, expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(rows).kneighbors(queries)
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_allclose(cosines, 1 - distances, atol=1e-5)
    assert neighbors.nearest(queries, rows[:2])[0].shape == (7, 2)


def result(labels, predicted):
    return SimpleNamespace(labels=labels, predicted=predicted)


@pytest.mark.parametrize("classes", [3, SHOWN_CLASSES + 20])
def test_confusion__is_that_of_scikit_learn_and_shows_the_classes_of_most_mistakes(classes):
    labels, predicted = RANDOM.integers(0, classes, (2, 400))
    of = result([(label,) for label in labels], [(label,) for label in predicted])
    expected = confusion_matrix(labels, predicted, labels=range(classes))
    np.testing.assert_array_equal(CONFUSIONS[ONE_LABEL](of, classes), expected)
    shown = COUNTS[ONE_LABEL](of, classes)
    assert len(shown["classes"]) == min(classes, SHOWN_CLASSES)
    np.testing.assert_array_equal(shown["counts"], expected[np.ix_(shown["classes"], shown["classes"])])
    wrong = expected.sum(axis=0) + expected.sum(axis=1) - 2 * expected.diagonal()
    left = np.setdiff1d(range(classes), shown["classes"])
    assert not len(left) or wrong[left].max() <= wrong[shown["classes"]].min()


def test_two_by_two__is_that_of_scikit_learn():
    targets, said = RANDOM.integers(0, 2, (2, 50, 4))
    of = result(*([tuple(np.flatnonzero(row)) for row in each] for each in (targets, said)))
    (tn, fp), (fn, tp) = multilabel_confusion_matrix(targets, said).transpose(1, 2, 0)
    np.testing.assert_array_equal(COUNTS[SEVERAL_LABELS](of, 4)["counts"], np.stack([tp, fn, fp, tn], 1))
    assert CONFUSIONS[SEVERAL_LABELS](of, 4) is None


def test_map__is_kept_whatever_the_order_and_made_again_for_other_rows(tmp_path):
    rows = RANDOM.normal(size=(40, 8)).astype(np.float32)
    digests = [f"{place:032x}" for place in range(40)]
    first = project(rows, digests, tmp_path)
    written = (tmp_path / FILE).stat().st_mtime_ns
    assert set(first) == {"PCA", "t-SNE"} and np.shape(first["PCA"]) == (40, 2)
    assert project(rows[::-1], digests[::-1], tmp_path) == {name: own[::-1] for name, own in first.items()}
    assert (tmp_path / FILE).stat().st_mtime_ns == written
    assert project(rows + 1, digests, tmp_path) != first
    # Images that are all the same, and too few for a map.
    assert set(project(np.ones((9, 8), np.float32), digests[:9], tmp_path)) == {"PCA"}
    assert project(rows[:4], digests[:4], tmp_path) == {}


def test_thumbnails__stay_within_their_budget(tmp_path):
    paths = []
    for number in range(30):
        paths.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(paths[-1]), RANDOM.integers(0, 255, (200, 400, 3), np.uint8))
    paths[3].write_bytes(b"no image")
    paths[4].unlink()
    whole = make_thumbnails(paths)
    assert (whole.missing, whole.skipped) == (2, 0) and not (whole.texts[3] or whole.texts[4])
    for budget in (60_000, 20_000):
        some = make_thumbnails(paths, budget)
        assert sum(map(len, some.texts)) <= budget
        assert some.skipped == (30 - len(some.texts[: 30 - some.skipped]))
    assert some.skipped > 0
    sides = [max(shape(text)[:2]) for text in (whole.texts[0], some.texts[0])]
    assert sides == [KINDS[0][1], KINDS[-1][1]] and shape(whole.texts[0]) == (64, 128, 3)


def shape(text):
    return cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR).shape


def test_json__ends_no_script_and_comes_back():
    value = {"</script><!--": ["<script>", "&amp;", "\u2028", "猫", None, 0.5]}
    text = json_text(value)
    assert not re.search("[<>&\u2028]", text) and json.loads(text) == value
    assert json.loads(json_text("\udce9")) == "?"  # of a path that is not UTF-8


def test_figures__of_a_test_with_intervals():
    metrics = {
        "images": 9,
        "macro_f1": 0.5,
        "accuracy": 0.75,
        "top_k": 2,
        "top_k_accuracy": 1.0,
        "log_loss": 0.25,
        "mean_auroc": None,
        "intervals": {"accuracy": [0.5, 0.875]},
        "classes": [{}, {}],
    }
    first, *others = facts.figures(metrics)
    assert (first.name, first.text, first.interval) == ("accuracy", "75.0\u00a0%", "50.0 to 87.5\u00a0%")
    assert [(each.name, each.text, each.interval) for each in others] == [
        ("macro F1", "50.0\u00a0%", ""),
        ("log loss", "0.250", ""),
    ]


def test_render__refuses_what_a_template_lacks():
    with pytest.raises(Exception, match="undefined"):
        render({})

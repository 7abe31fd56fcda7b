"""The learning curve of a cache: measured on images held out, told in a sentence, drawn."""

import itertools
import json

import cv2
import numpy as np
import pytest
from cache_support import write_cache
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from fastcls.errors import DataError, OptionError
from fastcls.evaluation import learning_curve as module
from fastcls.evaluation.learning_curve import learning_curve, write_curve

NAMES = ("ant", "bee", "cat")


def _cache(root, images=150, spread=0.35, **details):
    random = np.random.default_rng(0)
    labels = np.arange(images) % 3
    centers = random.normal(size=(3, 30)) * spread
    rows = centers[labels] + random.normal(size=(images, 30))
    return write_cache(root, rows.astype(np.float32), [(NAMES[label],) for label in labels], **details)


def test_curve__each_point_is_what_scikit_learn_reaches_with_as_many_images(tmp_path):
    cache = _cache(tmp_path)
    curve = learning_curve(cache)
    assert curve.available == 135 and curve.images.tolist() == sorted(curve.images.tolist())
    assert curve.images[-1] == 108 and curve.images[0] == pytest.approx(10.8, abs=2)
    assert curve.curves.shape == (25, 10) and (np.diff(curve.means) > -0.05).all()
    rows, samples = cache.read()
    kept = [place for place, sample in enumerate(samples) if sample.split != "test"]
    rows, labels = rows[kept], np.array([NAMES.index(samples[place].label) for place in kept])
    for place in (4,):
        count, found = int(curve.images[place]), []
        for own, held in StratifiedShuffleSplit(15, train_size=count, test_size=27, random_state=0).split(
            rows, labels
        ):
            fit = LogisticRegression(C=curve.chosen[place], max_iter=300).fit(rows[own], labels[own])
            found.append(fit.score(rows[held], labels[held]))
        assert curve.means[place] == pytest.approx(np.mean(found), abs=0.04)


def test_curve__parts_are_nested_stratified_and_leave_groups_and_test_images_whole(tmp_path, monkeypatch):
    seen = []
    held_out = module.hold_out_along
    monkeypatch.setattr(
        module, "hold_out_along", lambda folded, *_, **__: seen.append(folded) or held_out(folded, (0.1,))
    )
    groups = [f"g{place // 3}" for place in range(150)]
    learning_curve(_cache(tmp_path, groups=groups))
    assert len(seen) == 10 and all(len(folded.rows) == 135 for folded in seen)
    own = np.array([group for place, group in enumerate(groups) if place % 10 != 9])
    for number in range(len(seen[0].splits)):
        parts = [set(folded.splits[number][0].tolist()) for folded in seen]
        held = seen[0].splits[number][1]
        assert all(smaller < larger for larger, smaller in itertools.pairwise(parts))
        assert not {*own[[*parts[0]]]} & {*own[held]}
        counts = np.bincount(seen[5].labels[[*parts[5]]], minlength=3)
        assert np.ptp(counts) <= 6  # a group has three images


@pytest.mark.parametrize(
    ("images", "spread", "start"),
    [
        (150, 2.0, "More images would bring little: "),  # all is right already
        (30, 0.3, "Too few images to tell"),
        (300, 0.35, "Twice the images would bring about +"),
    ],
)
def test_curve__says_what_twice_the_images_would_bring(tmp_path, images, spread, start):
    curve = learning_curve(_cache(tmp_path, images, spread))
    assert curve.sentence.startswith(start) and "% interval" in curve.sentence
    assert curve.gain.low <= curve.gain.gain <= curve.gain.high and curve.gain.more == 2 * curve.available
    assert curve.sentence in str(curve)


def test_curve__of_several_labels_is_of_the_auroc(tmp_path):
    random = np.random.default_rng(0)
    marks = random.random((120, 3)) < 0.4
    rows = (marks @ random.normal(size=(3, 12)) + random.normal(size=(120, 12))).astype(np.float32)
    names = [tuple(name for name, has in zip(NAMES, row, strict=True) if has) for row in marks]
    curve = learning_curve(write_cache(tmp_path, rows, names))
    assert "points of mean AUROC" in curve.sentence and 0.5 < curve.means[-1] < 1


def test_curve__refuses_what_has_none(tmp_path):
    with pytest.raises(DataError, match="Received: 3 classes, 14 images"):
        learning_curve(_cache(tmp_path, 15))


def test_command__draws_writes_and_replaces_nothing(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from fastcls.cli.main import cli

    monkeypatch.chdir(tmp_path)
    _cache(tmp_path / "caches", 60, name="photos")

    def run(*arguments):
        return CliRunner().invoke(cli, ["curve", "caches", *arguments])

    first = run()
    assert first.exit_code == 0, first.output
    assert "In curves/photos.png, curves/photos.json" in first.output
    told = json.loads((tmp_path / "curves/photos.json").read_text())
    assert told["sentence"] in first.output and len(told["points"]) == 10
    assert cv2.imread("curves/photos.png").std() > 5
    before = (tmp_path / "curves/photos.json").read_bytes()
    assert "In curves/photos-2.png" in run().output
    for out, words in (
        ("curves/photos.png", "already exists"),
        ("a.jpg", "PNG file"),
        ("caches", "PNG file"),
    ):
        refused = run("--out", out)
        assert isinstance(refused.exception, OptionError) and words in str(refused.exception)
    assert (tmp_path / "curves/photos.json").read_bytes() == before
    (tmp_path / "own.json").write_text("{}")
    with pytest.raises(OptionError, match=r"own\.json already exists"):
        write_curve(learning_curve("caches"), tmp_path / "own.png")

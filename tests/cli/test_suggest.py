"""`fastcls suggest` chooses images of a folder without classes, which `extract` takes too."""

import csv
import shutil

import cv2
import numpy as np
import pytest

from fastcls.cache.store import Cache
from fastcls.runs import Run


@pytest.fixture(scope="module")
def unlabeled(photos, tmp_path_factory):
    """New pictures in folders that mean nothing, and one that is known."""
    root = tmp_path_factory.mktemp("unlabeled") / "inbox"
    random = np.random.default_rng(5)
    for number in range(8):
        place = root / f"day {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number}.png"), random.integers(0, 40 + 25 * number, (24, 30, 3), np.uint8))
    shutil.copy(root / "day 0" / "0.png", root / "copy.png")
    shutil.copy(photos / "red" / "0.png", root / "known.png")
    return root


def run_once(fastcls, base, photos, place):
    done = fastcls("run", photos, "--base", base, "--cache", place / "caches", "--out", place / "run")
    assert done.code == 0
    return place / "run"


def test_suggest__forwards_what_is_new_and_chooses(fastcls, base, photos, unlabeled, tmp_path):
    run = run_once(fastcls, base, photos, tmp_path)
    before = {path: path.read_bytes() for path in unlabeled.rglob("*.png")}
    asked = ("suggest", unlabeled, "--from", run, "--count", 5, "--out")
    done = fastcls(*asked, tmp_path / "a.csv")
    assert done.code == 0
    assert "Chosen from 8 new images" in done.out
    assert "8 forwarded; 1 are in the data set of the run" in done.out
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len({row["path"] for row in rows}) == 5
    assert "known.png" not in {row["path"] for row in rows}
    assert all(
        (unlabeled / row["path"]).is_file() and row["nearest_class"] in photos_of(photos) for row in rows
    )
    # Nothing is left to forward, the choice is the same, and no file is changed or replaced.
    again = fastcls(*asked, tmp_path / "b.csv")
    assert "0 forwarded" in again.out
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert {path: path.read_bytes() for path in unlabeled.rglob("*.png")} == before
    refused = fastcls(*asked, tmp_path / "a.csv")
    assert (refused.code, "already exists" in refused.err) == (1, True)


def photos_of(photos):
    return {path.name for path in photos.iterdir()}


def test_suggest__a_run_of_train_head_takes_what_was_extracted(fastcls, base, photos, unlabeled, tmp_path):
    caches, run = tmp_path / "caches", tmp_path / "run"
    extract = ("extract", "--base", base, "--cache", caches)
    assert fastcls(*extract, photos).code == 0
    assert fastcls("train-head", caches, "--val", 0.2, "--out", run).code == 0
    asked = ("suggest", unlabeled, "--from", run, "--out", tmp_path / "a.csv")
    refused = fastcls(*asked)
    assert (refused.code, "--unlabeled --base" in refused.err) == (1, True)
    done = fastcls(*extract, unlabeled, "--unlabeled")
    assert "Next: fastcls suggest" in done.out
    assert fastcls(*asked).code == 0
    folder = Run.open(run).cache_folders[0]
    assert {row.labels for row in Cache(folder, "inbox-unlabeled").samples()} == {()}
    done = fastcls(
        "train-head", caches, "--name", "inbox-unlabeled", "--val", 0.2, "--out", tmp_path / "other"
    )
    assert (done.code, "has no classes" in done.err) == (1, True)


def test_suggest__refuses_with_one_line(fastcls, trained, photos, unlabeled, tmp_path):
    (tmp_path / "empty").mkdir()
    cases = {
        (tmp_path / "empty", trained.run): "There is no image",
        (tmp_path / "nowhere", trained.run): "There is no folder",
        (unlabeled, tmp_path / "empty"): "run.json",
    }
    for (folder, run), message in cases.items():
        done = fastcls("suggest", folder, "--from", run, "--out", tmp_path / "a.csv")
        assert (done.code, message in done.err) == (1, True), done.err
    done = fastcls("extract", unlabeled, "--unlabeled", "--base", "x", "--label-column", "y")
    assert (done.code, "has no effect" in done.err) == (2, True)


def test_suggest__images_that_are_labeled_stay_labeled(fastcls, base, photos, tmp_path):
    caches, run = tmp_path / "caches", tmp_path / "run"
    asked = ("run", photos, "--base", base, "--cache", caches, "--test", 0.2, "--out", run)
    assert fastcls(*asked).code == 0
    refused = fastcls("suggest", photos, "--from", run, "--out", tmp_path / "a.csv")
    assert (refused.code, "are in the data set of" in refused.err) == (1, True)
    assert fastcls("extract", photos, "--unlabeled", "--base", base, "--cache", caches).code == 0
    listed = Cache(Run.open(run).cache_folders[0], photos.name).samples()
    assert {row.labels for row in listed} == {("blue",), ("green",), ("red",)}
    # Of several data sets in a cache, the only one with classes is trained on.
    assert fastcls("train-head", caches, "--out", tmp_path / "other").code == 0

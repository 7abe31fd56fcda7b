"""Images that are gone are tested from the cache; those of unknown classes can be left out."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from fastcls.inference.classifier import Classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the run is made once, and is again for each test: runs and caches know their places."""
    return tmp_path_factory.mktemp("gone")


@pytest.fixture
def home(photos, base, fastcls, folder):
    """A run, its cache, and a table of its images, of which some can be taken away."""
    home, whole = folder / "home", folder / "whole"
    shutil.rmtree(home, ignore_errors=True)
    if not whole.exists():
        _make(home, photos, base, fastcls)
        home.rename(whole)
    return shutil.copytree(whole, home)


def _make(home, photos, base, fastcls):
    data = shutil.copytree(photos, home / "data")
    rows = [["path", "label", "split"]]
    for place, path in enumerate(sorted(data.rglob("*.png"))):
        rows.append(
            [path.relative_to(data).as_posix(), path.parent.name, ("train", "val", "test")[place % 3]]
        )
    with (data / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    options = ("--base", base, "--precision", "float32", "--workers", 1, "--cache", home / "caches")
    assert fastcls("run", data / "table.csv", *options, "--out", home / "run").code == 0


def result(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return json.loads((folder / "metrics.json").read_text()), list(csv.DictReader(file))


def test_single_images_that_are_gone_are_taken_from_the_cache(home, fastcls):
    known, rows = result(home / "run" / "test" / "table")
    for row in rows[:5]:
        (home / "data" / row["path"]).unlink()
    tested = fastcls("test", home / "run", home / "data" / "table.csv", "--out", home / "again")
    assert tested.code == 0, tested.err
    assert "5 images gone: known by the table of the cache alone" in tested.out
    assert "Checked on 15 images" in tested.out and "Unreadable" not in tested.err
    found, again = result(home / "again")
    assert again == rows and found["accuracy"] == known["accuracy"]
    assert found["tested_on"]["gone"] == 5 and found["tested_on"]["digest"] == known["tested_on"]["digest"]
    through = fastcls("test", home / "run", home / "data" / "table.csv", "--through-model")
    assert through.code == 1 and "lists files that do not exist" in through.err


def test_data_that_are_gone_are_tested_as_the_cache_lists_them(home, fastcls, caplog):
    _, rows = result(home / "run" / "test" / "table")
    shutil.rmtree(home / "data")
    tested = fastcls("test", home / "run", home / "data" / "table.csv", "--out", home / "again")
    assert tested.code == 0, tested.err
    assert "table.csv does not exist" in caplog.text
    assert "samples/table.csv lists 60 images of 3 classes: these are tested" in caplog.text
    assert "Not checked through the whole classifier, as no image is there" in tested.out
    assert result(home / "again")[1] == rows
    library = Classifier.load(home / "run").test(home / "data" / "table.csv")
    assert (library.on.images, library.on.gone, library.on.seen) == (
        20,
        20,
        dict.fromkeys(library.on.seen, 0),
    )
    other = fastcls("test", home / "run", home / "data")
    assert other.code == 1 and str(home / "data") in other.err and other.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_one_class_alone_is_tested_where_the_classifier_knows_it(home, fastcls, kind):
    data = home / "data"
    (data / "table.csv").unlink()
    shutil.rmtree(data / "blue")
    shutil.rmtree(data / "green")
    (data / "green").mkdir()
    if kind == "table":
        rows = [f"{path.relative_to(data)},red" for path in sorted((data / "red").iterdir())]
        data = data / "red.csv"
        data.write_text("\n".join(["path,label", *rows]))
    tested = fastcls("test", home / "run", data, "--images", "all")
    assert tested.code == 0, tested.err
    assert "2 of 3 classes without images, left out of means: blue, green" in tested.out
    assert Classifier.load(home / "run").test(data, images="all").on.images == 20
    extracted = fastcls("extract", data, "--base", "mobilenetv2", "--cache", home / "other")
    assert extracted.code == 1 and extracted.err.count("\n") == 1


def test_classes_that_are_unknown_can_be_left_out(home, fastcls, caplog):
    data = home / "data"
    (data / "table.csv").unlink()
    shutil.copytree(data / "red", data / "pink")
    shutil.rmtree(data / "blue")
    refused = fastcls("test", home / "run", data)
    assert refused.code == 1 and "does not know the classes pink of" in refused.err
    assert "(20 images)" in refused.err and "--allow-missing leaves them out" in refused.err
    every = ("--images", "all")
    tested = fastcls("test", home / "run", data, "--allow-missing", "--compact", *every)
    assert tested.code == 0, tested.err
    assert "(20 images): they are left out" in caplog.text
    assert "1 of 3 classes without images, left out of means: blue" in tested.out
    found, rows = result(home / "run" / "test" / "data")
    assert len(rows) == found["images"] == 40 and found["tested_on"]["left_out"] == 20
    assert [*rows[0]] == ["path", "label", "predicted", "confidence", "rank", "correct", "unfamiliarity"]
    # Not compact: another result.
    assert fastcls("test", home / "run", data, "--allow-missing", *every).code == 0
    assert "p:red" in result(home / "run" / "test" / "data-2")[1][0]
    shutil.rmtree(data / "red")
    shutil.rmtree(data / "green")
    (data / "violet").mkdir()
    shutil.copy(data / "pink" / "0.png", data / "violet" / "0.png")
    alone = fastcls("test", home / "run", data, "--allow-missing")
    assert alone.code == 1 and "does not know the classes pink, violet" in alone.err

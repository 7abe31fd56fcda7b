"""`fastcls test RUN DATA` of the data that the run was trained on takes the images that it held out."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from fastcls import files
from fastcls.errors import OptionError
from fastcls.inference.classifier import Classifier
from fastcls.runs import Run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained.run, tmp_path / "run")


@pytest.fixture
def data(photos, tmp_path):
    return shutil.copytree(photos, tmp_path / "moved" / "photos")


def told(folder):
    return json.loads((folder / "metrics.json").read_text())["tested_on"]


def paths(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return {row["path"] for row in csv.DictReader(file)}


def test_the_data_of_the_run_itself_are_tested_as_run_did(fastcls, run, data, caplog):
    (data / "red" / "0.png").rename(data / "red" / "renamed.png")  # the bytes are what counts
    held_out = paths(run / "test" / "photos")
    tested = fastcls("test", run, data)
    assert tested.code == 0 and not caplog.text, tested.err
    assert "the 12 of 60 images that the run held out (--images all: all 60)" in tested.out
    assert "The same result was there already" in tested.out
    assert [path.name for path in (run / "test").iterdir()] == ["photos"]
    table = data.parent / "table.csv"
    assert fastcls("to-csv", data, "--out", table).code == 0
    assert fastcls("test", run, table, "--out", run / "of-table").code == 0
    moved = {path.replace("renamed", "0") for path in paths(run / "of-table")}
    assert {path.removeprefix("photos/") for path in moved} == held_out
    all_of_them = fastcls("test", run, data, "--images", "all")
    assert told(run / "test" / "photos-2")["images"] == 60, all_of_them.err
    assert (
        "48 of the 60 images are not new" in caplog.text and f"test {run} {data} --images new" in caplog.text
    )


def test_new_images_count_as_held_out_and_unreadable_ones_of_the_training_do_not(
    fastcls, run, data, trained, tmp_path
):
    for number in range(3):
        new = (data / "red" / f"{number}.png").read_bytes() + b" "
        (data / "red" / f"new{number}.png").write_bytes(new)
    tested = fastcls("test", run, data)
    assert "the 15 of 63 images that the run held out, 3 of them added since then" in tested.out
    on = told(run / "test" / "photos-2")
    assert (on["part"], on["images"], on["used"], on["added"]) == ("new", 15, 48, 3)
    assert not any(on["seen"].values())
    library = Classifier.load(run).test(data).on
    assert (library.images, library.used, library.added, library.digest) == (15, 48, 3, on["digest"])
    through = Classifier.load(run).test(data, through_model=True).on
    assert (through.digest, through.features) == (on["digest"], "images")


@pytest.mark.parametrize("kept", ["cache", "request", "neither"])
def test_the_held_out_part_is_known_to_the_cache_or_else_to_the_request(
    fastcls, run, data, tmp_path, caplog, kept
):
    record = files.read_checked_json(run / "run.json")
    if kept != "cache":
        record["cache_folders"] = [str(tmp_path / "gone")]
    if kept != "request":
        record["asked"].pop("splits", None)
    files.write_checked_json(run / "run.json", record)
    assert fastcls("test", run, data, "--out", tmp_path / "out").code == 0
    assert told(tmp_path / "out")["images"] == (60 if kept == "neither" else 12)
    assert ("are not new to the classifier" in caplog.text) is (kept == "neither")
    assert fastcls("test", run, data, "--images", "new", "--out", tmp_path / "new").code == 0
    assert told(tmp_path / "new")["images"] == 12


def test_new__is_refused_where_nothing_is_new_or_that_is_unknown(fastcls, run, data, tmp_path):
    used = {image.digest for image in Run.open(run).used.images}
    for path in data.rglob("*.png"):
        if files.file_digest(path) not in used:
            path.unlink()
    plain = fastcls("test", run, data)
    assert plain.code == 0 and "--images new" not in plain.err
    refused = fastcls("test", run, data, "--images", "new")
    assert refused.code == 1 and "All 48 images of" in refused.err and refused.err.count("\n") == 1
    lone = shutil.copy(run / "classifier.keras", tmp_path / "lone.keras")
    with pytest.raises(OptionError, match="unknown which images"):
        Classifier.load(lone).test(data, images="new")

"""The default head, as a user meets it: what it takes, what it says, what it keeps."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from fastcls.cache.store import Cache
from fastcls.runs import Run
from fastcls.training.head_reader import load_head
from fastcls.training.head_trainer import train_head
from fastcls.training.heads.regression_rows import StreamedRows
from fastcls.training.rows import cached as feeder

TAKES_LOGREG = "--head auto takes logreg (logistic regression)\n"


def _uses(run):
    with (run / "images.csv").open() as file:
        return [row["use"] for row in csv.DictReader(file)]


def test_auto__run_says_what_it_takes_and_which_images_are_trained_on(
    fastcls, photos, base, tmp_path, caplog
):
    run = tmp_path / "run"
    command = ("run", photos, "--base", base, "--precision", "float32", "--workers", 1)
    command = (*command, "--cache", tmp_path / "caches", "--out", run)
    planned = fastcls(*command, "--dry-run")
    assert planned.code == 0 and TAKES_LOGREG in planned.out, planned.err
    assert "Images: 36 for training, 12 for validation; then refitted on all 48\n" in planned.out
    done = fastcls(*command)
    assert done.code == 0 and TAKES_LOGREG in done.out, done.err
    assert "Refitted on all 48 images, those for validation too" in done.out
    assert _uses(run) == ["train"] * 36 + ["refit"] * 12
    record = json.loads((run / "run.json").read_text())
    assert record["asked"]["head"]["kind"] == "auto" and record["decided_by"]["head"]["kind"] == "logreg"
    assert record["images"] == {"train": 36, "val": 0, "refit": 12, "earlier": 0, "complete": True}
    listed = fastcls("runs", tmp_path)
    assert " 36   12  logreg" in listed.out, listed.out
    again = fastcls(*command)
    assert again.code == 0 and "already complete" in caplog.text
    other = fastcls(*command, "--epochs", 50)
    assert other.code == 1 and "already exists, with another training" in other.err

    overlap = fastcls("test", run, photos, "--images", "all")
    told = "36 used for training, 12 used for validation, then for training"
    assert f"48 of the 60 images are not new to the classifier ({told})" in caplog.text
    assert told in overlap.out

    copied = fastcls(*command[:-1], tmp_path / "copy", "--config", run)
    assert copied.code == 0 and TAKES_LOGREG in copied.out, copied.err


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--epochs", 3], "--epochs was given"),
        (["--optimizer", "adam", "--layers", 8], "--layers and --optimizer were given"),
        (
            ["--checkpoint-every", 0, "--no-refit"],
            "--checkpoint-every was given; --no-refit changes nothing there: the images for validation are "
            "never trained on",
        ),
    ],
)
def test_auto__a_typed_option_of_epochs_takes_linear(fastcls, trained, tmp_path, given, why):
    run = tmp_path / "run"
    made = fastcls("train-head", trained.cache.folder, "--out", run, *given)
    assert made.code == 0 and f"--head auto takes linear, as {why}\n" in made.out, made.err
    assert "Refitted" not in made.out and load_head(run).spec.kind == "linear"
    assert set(_uses(run)) == {"train", "val"}


@pytest.mark.parametrize("given", [["--epochs", 50], ["--optimizer", "adam"]])
def test_auto__the_options_of_its_run_take_the_same_head(fastcls, trained, tmp_path, given):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    command = ("train-head", trained.cache.folder, "--out")
    assert fastcls(*command, first, *given).code == 0
    again = fastcls(*command, second, "--config", first)
    assert again.code == 0 and f"takes linear, as {given[0]} was given\n" in again.out, again.err
    assert Run.open(first).resolved == Run.open(second).resolved
    assert fastcls(*command, third, "--config", second, "--head", "logreg").code == 0
    assert load_head(third).spec.kind == "logreg"
    (tmp_path / "job.json").write_text(json.dumps({given[0].removeprefix("--"): given[1]}))
    by_hand = fastcls(*command, tmp_path / "fourth", "--config", tmp_path / "job.json")
    assert by_hand.code == 0 and f"takes linear, as {given[0]} was given\n" in by_hand.out, by_hand.err
    other = fastcls(*command, first)
    assert other.code == 1 and f"({given[0]} was given, is not given now)" in other.err


def test_auto__no_refit_keeps_validation_out(fastcls, trained, tmp_path):
    run = tmp_path / "run"
    made = fastcls("train-head", trained.cache.folder, "--out", run, "--no-refit")
    assert made.code == 0 and "Kept C" in made.out and "Refitted" not in made.out, made.err
    assert set(_uses(run)) == {"train", "val"}
    refused = fastcls("train-head", trained.cache.folder, "--out", run, "--head", "knn", "--no-refit")
    assert refused.code == 2 and "--no-refit has no effect with --head knn" in refused.err


def test_auto__is_trained_further(fastcls, trained, tmp_path):
    first, run = tmp_path / "first", tmp_path / "run"
    assert fastcls("train-head", trained.cache.folder, "--out", first).code == 0
    further = fastcls("train-head", trained.cache.folder, "--out", run, "--from", first, "--epochs", 1)
    assert further.code == 0 and load_head(run).spec.kind == "linear", further.err


def test_auto__without_validation(fastcls, trained, tmp_path):
    run = tmp_path / "run"
    planned = fastcls("train-head", trained.cache.folder, "--out", run, "--val", 0, "--dry-run")
    made = fastcls("train-head", trained.cache.folder, "--out", run, "--val", 0)
    assert planned.code == made.code == 0 and "cv_loss" in made.out, made.err
    written = planned.out.split("Would write to ")[1].split(": ")[1].split(". Nothing")[0].split(", ")
    assert sorted(path.name for path in run.iterdir()) == sorted(written)


def test_auto__takes_the_same_head_with_little_memory(trained, monkeypatch, tmp_path):
    cache = Cache(shutil.copytree(trained.cache.folder, tmp_path / "cache"))
    expected = train_head(cache)
    passes, blocks = [], StreamedRows.blocks
    monkeypatch.setattr(StreamedRows, "blocks", lambda rows: passes.append(rows) or blocks(rows))
    monkeypatch.setattr(feeder, "allowed_memory", lambda: 100)
    head = train_head(cache)
    assert passes
    for one, other in zip(expected.model.get_weights(), head.model.get_weights(), strict=True):
        assert np.allclose(one, other, rtol=1e-2, atol=1e-2)


def test_from__a_refitted_run_warns_that_it_validates_on_what_was_trained_on(
    fastcls, trained, tmp_path, caplog
):
    for name, options, warns in (("refitted", (), True), ("kept out", ("--no-refit",), False)):
        start, out = tmp_path / name, tmp_path / f"{name} on"
        assert fastcls("train-head", trained.cache.folder, "--out", start, *options).code == 0
        caplog.clear()
        result = fastcls("train-head", trained.cache.folder, "--out", out, "--from", start, "--epochs", 1)
        assert result.code == 0, result.err
        assert ("images for validation had a part in the training" in caplog.text) == warns

"""`run` on data that is split, with all parts or without some."""

import re
import shutil
from pathlib import Path

import pytest

from fastcls import pipeline

SMALL = ("--precision", "float32", "--epochs", 1, "--executor", "inline")


@pytest.fixture(scope="module")
def split_photos(photos, tmp_path_factory):
    """Returns a function that makes a split folder of some parts."""

    def make(*parts):
        root = tmp_path_factory.mktemp("split") / "data"
        for folder in photos.iterdir():
            for place, photo in enumerate(sorted(folder.iterdir())):
                part = ("train", "train", "val", "test")[place % 4]
                if part in parts:
                    (root / part / folder.name).mkdir(parents=True, exist_ok=True)
                    shutil.copy(photo, root / part / folder.name)
        return root

    return make


@pytest.mark.parametrize(
    ("parts", "options", "counts", "said"),
    [
        (["train", "val"], [], (30, 15), ["No test: {data} has no test part"]),
        (["train", "val"], ["--test", 0, "--val", 0], (30, 0), ["No test: --test 0"]),
        (["train", "test"], [], (24, 6), ["{data} has no validation part: using 6 images of its train part"]),
        (["train"], [], (24, 6), ["{data} has no validation part", "No test: {data} has no test part"]),
        (["train"], ["--val", 0], (30, 0), ["No test: {data} has no test part"]),
    ],
)
def test_run__goes_without_a_test_part_and_makes_a_validation_part(
    fastcls, split_photos, base, tmp_path, parts, options, counts, said
):
    data, run = split_photos(*parts), tmp_path / "run"
    command = ("run", data, "--base", base, *SMALL, *options, "--cache", tmp_path / "c", "--out", run)
    planned = fastcls(*command, "--dry-run")
    assert planned.code == 0 and not list(tmp_path.iterdir())
    assert f"Images: {counts[0]} for training, {counts[1]} for validation" in planned.out
    done = fastcls(*command)
    assert done.code == 0, done.err
    assert f"trained on {counts[0]} images, validated on {counts[1]}" in done.out
    for line in said:
        assert line.format(data=data) in planned.out and line.format(data=data) in done.out
    assert (run / "test").exists() == ("test" in parts) == ("No test" not in done.out)
    again = fastcls(*command)  # complete: all is said again
    assert again.code == 0 and [line for line in done.out.splitlines() if "No " in line] == [
        line for line in again.out.splitlines() if "No " in line
    ]


def test_extract__dry_run_says_what_would_be_forwarded_and_writes_nothing(
    fastcls, photos, base, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    command = ("extract", photos, "--base", base, "--workers", 1, "--precision", "float32")
    planned = fastcls(*command, "--dry-run")
    assert planned.code == 0 and not list(tmp_path.iterdir())
    assert "no cache in bottlenecks yet, 60 images to forward" in planned.out
    assert "float32" in planned.out and "Nothing was written" in planned.out
    assert fastcls(*command).code == 0
    assert "0 images to forward" in fastcls(*command, "--dry-run").out
    refused = [
        fastcls("extract", photos, "--base", base, "--cut", "nowhere", *more) for more in ([], ["--dry-run"])
    ]
    assert [result.code for result in refused] == [1, 1] and refused[0].err == refused[1].err


def test_extract__a_split_that_a_run_has_made_does_not_vanish_without_a_word(
    fastcls, photos, base, tmp_path, monkeypatch, caplog
):
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    base_options = ("--base", base, "--executor", "inline", "--precision", "float32")
    extract, table = ("extract", "photos", *base_options), "samples/photos.csv"
    assert fastcls("run", "photos", *base_options, "--head", "prototype", "--out", "run").code == 0
    (cache,) = Path("bottlenecks").iterdir()
    split = split_of(cache / table)
    for command in ((*extract, "--dry-run"), extract, (*extract, "--views", 2)):
        caplog.clear()
        done = fastcls(*command)
        assert f"{table} keeps its split (train 36, val 12, test 12)" in done.out + caplog.text
        assert split_of(cache / table) == split
    assert "36 forwarded (36 views)" in done.out  # the views of images that are trained on
    assert fastcls(*extract, "--name", "plain").code == 0
    assert "train" not in (cache / "samples" / "plain.csv").read_text()
    assert split_of(cache / table) == split
    shutil.copy("photos/red/0.png", "photos/red/new.png")
    for command in ((*extract, "--dry-run"), extract):
        caplog.clear()
        done = fastcls(*command)
        said = f"{table} has another split (train 36, val 12, test 12), which is replaced"
        assert said in done.out + caplog.text
    assert "train" not in (cache / table).read_text()
    caplog.clear()
    assert fastcls(*extract).code == 0 and caplog.text == ""


def split_of(table):
    return [line.split(",")[:3] for line in table.read_text().splitlines()]


def test_run__tells_each_stage_when_it_ends(fastcls, photos, base, tmp_path, monkeypatch):
    for name in ("prepare_training", "run_test"):
        monkeypatch.setattr(pipeline, name, announced(name, getattr(pipeline, name)))
    result = fastcls(
        "run", photos, "--base", base, *SMALL, "--cache", tmp_path / "c", "--out", tmp_path / "run"
    )
    expected = (
        f"{re.escape(str(photos))}: 60 images of 3 classes; train 36, val 12, test 12\n"
        r"--head auto takes linear, as --epochs was given\n"
        r"Extracted 60 images in \d+\.\d s: 60 forwarded, 0 reused, 0 unreadable\n.*"
        r"-- prepare_training\n"
        r"Run .*: 3 classes, trained on 36 images, validated on 12; 1 epoch in \d+\.\d s\n.*"
        r"-- run_test\n.*"
        r"Tested on .* \(its test part\): 12 images; none of them was used in training; \d+\.\d s"
    )
    assert re.match(expected, result.out, re.DOTALL), result.out


def announced(name, act):
    def announce(*args, **kwargs):
        print("--", name, flush=True)
        return act(*args, **kwargs)

    return announce


def test_run__tells_how_training_goes_where_no_terminal_shows_it(
    fastcls, trained, tmp_path, monkeypatch, caplog
):
    command = ("train-head", trained.cache.folder, "--epochs", 2, "--out")
    assert fastcls(*command, tmp_path / "piped").err == ""  # this is pytest's: its handler takes the lines
    (first, second) = [message for message in caplog.messages if "Epoch" in message]
    assert first.startswith("Epoch 1 of at most 2: loss ") and ", val_accuracy " in second
    caplog.clear()
    monkeypatch.setattr("fastcls.cli.options.show_progress", lambda: True)
    monkeypatch.setattr("fastcls.cli.logs.show_progress", lambda: True)
    assert "2/2 epochs" in fastcls(*command, tmp_path / "terminal").err and not caplog.messages

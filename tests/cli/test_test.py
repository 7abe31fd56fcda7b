"""`fastcls test` says on what it tested, and never writes a result over another one."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import replace

import pytest

from fastcls import files, pipeline
from fastcls.data.dataset import Dataset
from fastcls.inference.classifier import Classifier
from fastcls.plans.finetuning import plan_finetuning
from fastcls.report.tested import read_test
from fastcls.runs import Run
from fastcls.specs import FinetuneSpec, TrainConfig

ALL = "--images", "all"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained.run, tmp_path / "run", ignore=lambda *_: ["test"])


@pytest.fixture
def part(run, photos, tmp_path):
    """Returns a function that makes a folder of so many photos that the run has used in each way, or not."""

    def make(name, **counts):
        images = Run.open(run).used.images
        used = {image.digest: image.use for image in images}
        groups = {"train": [], "val": [], "new": []}
        for path in sorted(photos.rglob("*.png"), key=lambda path: (path.name, path.parent)):
            groups[used.get(files.file_digest(path), "new")].append(path)
        root = tmp_path / name
        for use, count in counts.items():
            assert count <= len(groups[use])
            for number, path in enumerate(groups[use][:count]):
                # Under another name: the bytes are what counts.
                place = root / path.parent.name / f"{use}{number}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
        return root

    return make


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_run__knows_its_images_and_its_own_test_is_of_new_ones(trained, photos):
    images = Run.open(trained.run).used.images
    digests = {files.file_digest(path) for path in photos.rglob("*.png")}
    assert [sum(image.use == use for image in images) for use in ("train", "val")] == [36, 12]
    assert len({image.digest for image in images}) == 48 and {image.digest for image in images} < digests
    assert all(photos / image.path and image.labels == (image.path.split("/")[0],) for image in images)
    found = metrics(trained.run / "test" / "photos")["tested_on"]
    assert found["data"] == str(photos) and (found["part"], found["images"]) == ("test", 12)
    assert found["seen"] == {"train": 0, "val": 0, "refit": 0, "earlier": 0}
    assert found["model"] == files.file_digest(trained.run / "classifier.keras")


def test_test__warns_of_images_that_had_a_part_in_the_training(fastcls, run, part, caplog):
    data = part("mixed", train=9, val=4, new=10)
    result = fastcls("test", run, data, "--images", "all")
    assert result.code == 0, result.err
    told = "9 used for training, 4 used for validation"
    assert f"13 of the 23 images are not new to the classifier ({told}): only the other 10 can" in caplog.text
    assert f"Test on these alone: fastcls test {run} {data} --images new" in caplog.text
    assert f"23 images; {told}" in result.out
    assert metrics(run / "test" / "mixed")["tested_on"]["seen"] == {
        "train": 9,
        "val": 4,
        "refit": 0,
        "earlier": 0,
    }
    caplog.clear()
    clean = fastcls("test", run, part("clean", new=12))
    assert clean.code == 0 and not caplog.text
    assert "12 images; none of them was used in training" in clean.out


def test_test__never_writes_over_another_result(fastcls, run, part, tmp_path):
    data = part("data", new=12)
    first = fastcls("test", run, data)
    assert first.code == 0 and f"In {run / 'test' / 'data'}: metrics.json" in first.out
    before = contents(run / "test")
    time.sleep(1.1)  # results say when they were made, in seconds
    again = fastcls("test", run, data).out  # the same result: it stays as it is
    again, there = re.subn(r"The same result was there already, of .*, from the .*\n", "", again)
    assert there
    assert re.sub(r"[0-9.]+ s\n", "", again) == re.sub(r"[0-9.]+ s\n", "", first.out)
    moved = shutil.copytree(data, tmp_path / "elsewhere" / "data")
    assert f"In {run / 'test' / 'data'}: " in fastcls("test", run, moved).out
    assert contents(run / "test") == before
    part("data", train=12)  # other images of the same name
    second = fastcls("test", run, data, *ALL)
    assert f"In {run / 'test' / 'data-2'}: " in second.out
    (run / "test" / "data-3").mkdir()
    (run / "test" / "data-3" / "thesis.txt").touch()
    shutil.rmtree(data / "red")  # other classes
    assert f"In {run / 'test' / 'data-4'}: " in fastcls("test", run, data, *ALL).out
    after = contents(run / "test")
    assert {path: after[path] for path in before} == before


def test_test__what_is_written_of_odd_names_is_read_again(fastcls, run, part):
    data = part("data", new=12)
    for name in ("a\rb.png", "a\nb.png", 'a",b.png'):
        (next(data.glob("red/new*.png"))).rename(data / "red" / name)
    assert fastcls("test", run, data).code == 0
    tested = read_test(Run.open(run), "data")
    assert {*tested.paths} == {path.relative_to(data).as_posix() for path in data.rglob("*.png")}


def test_test__of_more_readable_images_is_another_result(fastcls, run, part):
    data = part("data", new=12)
    damaged = sorted(data.rglob("*.png"))[0]
    whole = damaged.read_bytes()
    refused = fastcls("test", run, data, "--max-pixels", 1)
    assert refused.code == 1 and not (run / "test").exists()
    damaged.write_bytes(whole[:50])
    assert "12 images (1 unreadable)" in fastcls("test", run, data).out
    assert metrics(run / "test" / "data")["tested_on"]["unreadable"] == 1
    (run / "test" / "data" / "predictions.csv").unlink()
    assert f"In {run / 'test' / 'data-2'}: " in fastcls("test", run, data).out


def test_test__names_the_table_that_the_images_are_listed_in(fastcls, run, part, tmp_path):
    assert fastcls("to-csv", part("data", new=12), "--out", tmp_path / "table.csv").code == 0
    tested = fastcls("test", run, tmp_path / "table.csv")
    assert tested.code == 0 and f"Tested on {tmp_path / 'table.csv'}: 12 images" in tested.out
    found = metrics(run / "test" / "table")["tested_on"]
    assert (found["data"], found["root"]) == (str(tmp_path / "table.csv"), str(tmp_path))


def test_test__of_another_classifier_is_another_result(fastcls, run, part, trained, tmp_path):
    data = part("data", new=12)
    for number, name in enumerate(("one", "two"), 1):
        file = tmp_path / f"{name}.keras"
        classifier = Classifier.load(run)
        replace(classifier, provenance={"name": name}).save(file)
        result = fastcls("test", file, data)
        assert result.code == 0 and "it is unknown which of them were used in training" in result.out
        folder = tmp_path / "test" / ("data" if number == 1 else "data-2")
        assert metrics(folder)["tested_on"]["seen"] is None


def test_test__out_of_something_else_is_refused_before_the_images_are_classified(
    fastcls, run, part, tmp_path, monkeypatch
):
    data, out = part("data", new=12), tmp_path / "out"
    assert fastcls("test", run, data, "--out", out).code == 0
    assert fastcls("test", run, data, "--out", out).code == 0
    monkeypatch.setattr(Classifier, "predict", None)
    before = contents(out)
    part("data", train=5)
    refused = fastcls("test", run, data, "--out", out, *ALL)
    assert refused.code == 1 and f"{out} already exists" in refused.err
    assert contents(out) == before
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        refused = fastcls("test", run, data, "--out", place)
        assert refused.code == 1 and refused.err.startswith(f"Error: {place} ")


def test_finetune__knows_the_images_of_the_run_that_it_goes_on_from(run, photos, part, tmp_path):
    fresh = part("fresh", new=12)
    config = TrainConfig(epochs=1, val=0.25)
    out = tmp_path / "tuned"
    pipeline.finetune_planned(plan_finetuning(Dataset.from_folder(fresh), run, FinetuneSpec(), config, out))
    images = Run.open(out).used.images
    assert [sum(image.use == use for image in images) for use in ("train", "val", "earlier")] == [9, 3, 48]
    counts = {"train": 9, "val": 3, "refit": 0, "earlier": 48}
    assert Run.open(out).record["images"] == {**counts, "complete": True}
    on = Classifier.load(out).test(Dataset.from_folder(photos)).on
    assert on.seen == counts
    # One that goes on from it in turn, and one from a file of unknown origin.
    again = tmp_path / "again"
    pipeline.finetune_planned(plan_finetuning(Dataset.from_folder(fresh), out, FinetuneSpec(), config, again))
    assert len(Run.open(again).used.images) == 60
    lone = shutil.copy(run / "classifier.keras", tmp_path / "lone.keras")
    other = tmp_path / "other"
    pipeline.finetune_planned(
        plan_finetuning(Dataset.from_folder(fresh), lone, FinetuneSpec(), config, other)
    )
    assert not Run.open(other).used.is_complete
    new = part("unseen", train=12)
    assert Classifier.load(other).test(Dataset.from_folder(new)).on.seen is None


@pytest.mark.parametrize(
    "command",
    [
        "run {photos} --base {base} --cache {caches} --out {out}",
        "train-head {cache} --out {out}",
        "finetune {photos} --base {base} --val 0.2 --out {out}",
        "extract {photos} --base {base} --cache {out}",
    ],
)
def test_an_out_that_cannot_be_made_is_found_before_the_work(
    fastcls, photos, base, trained, tmp_path, monkeypatch, command
):
    for work in ("extract_planned", "train_prepared", "prepare_finetuning"):
        monkeypatch.setattr(pipeline, work, None)
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    values = {"photos": photos, "base": base, "cache": trained.cache.folder, "caches": tmp_path / "caches"}
    result = fastcls(*(part.format(**values, out=out) for part in command.split()))
    assert result.code == 1 and result.err.startswith(f"Error: {out}"), result.err
    assert "cannot be created" in result.err and [path.name for path in tmp_path.iterdir()] == ["file"]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

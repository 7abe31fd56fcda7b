"""Several labels per image, from a table to predictions, by the commands."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fastcls.cache.store import Cache
from fastcls.data.dataset import Dataset
from fastcls.extraction.extractor import extract
from fastcls.runs import Run
from fastcls.specs import BaseSpec, CutSpec, ExtractConfig
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS
from fastcls.used_images import USES

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A CSV of noisy pictures that are brighter in none to all of three colors."""
    root = tmp_path_factory.mktemp("several")
    random = np.random.default_rng(0)
    lines = ["path,labels"]
    for number in range(80):
        has = random.uniform(size=3) < 0.45
        image = random.integers(0, 120, (24, 30, 3), np.uint8) + np.where(has, 100, 0).astype(np.uint8)
        cv2.imwrite(str(root / f"{number:02}.png"), image)
        lines.append(f"{number:02}.png,{'$'.join(np.array(CLASSES)[has])}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root / "labels.csv"


@pytest.fixture(scope="module")
def cut(base) -> CutSpec:
    return CutSpec(BaseSpec(str(base)), layer="pooled", precision="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def made(fastcls, table, cut, folder) -> Path:
    """A split, a cache and a run in one folder; made once."""
    if (folder / "run").exists():
        return folder
    shown = fastcls("split-data", table, "--label-separator", "$", "--out", folder / "data")
    assert shown.code == 0 and f"Next: fastcls extract {folder / 'data'}" in shown.out
    assert "no label" in shown.out
    extract(Dataset.open(folder / "data"), cut, folder / "caches", ExtractConfig(executor="inline"))
    options = ["--learning-rate", 0.05, "--epochs", 80, "--threshold", "per-class", "--class-weight", "log"]
    result = fastcls("train-head", folder / "caches", "--out", folder / "run", *options)
    assert result.code == 0, result.err
    assert "val_auroc" in result.out and "Thresholds: blue 0." in result.out
    assert f"Next: fastcls test {folder / 'run'} DATA, " in result.out
    return folder


def test_test__agrees_with_what_is_predicted(fastcls, made):
    result = fastcls("test", made / "run", made / "data")
    assert result.code == 0, result.err
    assert "accuracy" not in result.out and "exact match" in result.out
    figures = json.loads((made / "run/test/data/metrics.json").read_text())
    assert figures["tested_on"]["part"] == "test" and not any(figures["tested_on"]["seen"].values())
    data = Dataset.open(made / "data").subset("test")
    paths = [data.locate(sample) for sample in data.samples]
    rows = [json.loads(line) for line in fastcls("predict", made / "run", *paths, "--json").out.splitlines()]
    named = [tuple(sorted(p["class"] for p in row["predictions"])) for row in rows]
    right = [names == data.names_of(sample) for names, sample in zip(named, data.samples, strict=True)]
    assert figures["exact_match"] == pytest.approx(np.mean(right)) and figures["exact_match"] > 0.6
    with (made / "run/test/data/predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [tuple(json.loads(row["predicted"])) for row in table] == named
    scores = np.array([[float(row[f"p:{name}"]) for name in CLASSES] for row in table])
    targets = np.array([[label in sample.labels for label in range(3)] for sample in data.samples])
    assert figures["mean_auroc"] == pytest.approx(roc_auc_score(targets, scores), abs=1e-6)
    assert figures["mean_auroc"] > 0.9


def test_test__warns_of_images_that_had_a_part_in_the_training(fastcls, made, table, tmp_path, caplog):
    images = Run.open(made / "run").used.images
    assert {len(image.labels) for image in images} >= {0, 1, 2}
    out = ("--out", tmp_path / "out")
    assert fastcls("test", made / "run", table, "--label-separator", "$", "--images", "all", *out).code == 0
    assert f"{len(images)} of the 80 images are not new to the classifier" in caplog.text
    seen = json.loads((tmp_path / "out" / "metrics.json").read_text())["tested_on"]["seen"]
    assert seen == {use: sum(image.use == use for image in images) for use in USES}


def test_test__bears_a_column_of_a_class_that_no_image_has(fastcls, made, table, tmp_path):
    rows = [f"{table.parent / f'{number:02}.png'},{number % 2},1,0,0" for number in range(4)]
    (tmp_path / "a.csv").write_text("\n".join(["path,blue,green,red,never", *rows]))
    result = fastcls("test", made / "run", tmp_path / "a.csv", "--out", tmp_path / "test")
    assert result.code == 0 and "never" not in result.out, result.err


def test_predict__thresholds_are_those_of_the_run(fastcls, made, table):
    known = json.loads((made / "run/run.json").read_text())
    thresholds = dict(zip(CLASSES, known["thresholds"], strict=True))
    shown = fastcls("predict", made / "run", table.parent, "--csv")
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert {row["path"] for row in rows} == set(map(str, table.parent.glob("*.png")))
    for row in rows:
        if row["rank"] == "0":
            assert row["class"] == row["confidence"] == ""
        else:
            assert float(row["confidence"]) >= thresholds[row["class"]] - 1e-6
    none = next(row["path"] for row in rows if row["rank"] == "0")
    assert fastcls("predict", made / "run", none).out == f"{none}: no class\n"


def test_predict__scores_threshold_and_number_of_several_labels(fastcls, made, table):
    asked = ("predict", made / "run", table.parent, "--json")
    scores = _answers(fastcls(*asked, "--scores"), "scores")
    assert all(list(row) == sorted(CLASSES, key=row.get, reverse=True) for row in scores.values())
    for threshold, most in ((0.3, None), (0.0, 2), (0.7, 1)):
        more = ("--threshold", threshold, *(("--top-k", most) if most else ()))
        expected = {
            path: dict([pair for pair in row.items() if pair[1] >= threshold][:most])
            for path, row in scores.items()
        }
        assert _answers(fastcls(*asked, *more), "predictions") == expected


def _answers(result, member):
    rows = [json.loads(line) for line in result.out.splitlines()]
    return {row["path"]: {each["class"]: each["confidence"] for each in row[member]} for row in rows}


def test_classifier__loads_with_keras_alone(made, table):
    import keras

    model = keras.saving.load_model(made / "run/classifier.keras")
    image = cv2.imread(str(table.parent / "00.png"), cv2.IMREAD_COLOR_RGB)
    found = model.predict(cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA)[None], verbose=0)
    assert found.shape == (1, 3) and found.min() > 0 and found.max() < 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["predict", "{run}", "x.png", "--min-confidence", 0.5], 1, "several labels per image. Remove it. "),
        (["test", "{run}", "{photos}"], 1, "predicts several labels per image, {photos} has one label"),
        (["test", "{single}", "{data}"], 1, "predicts one label per image, {data} has several labels"),
        (["test", "{run}", "{table}"], 1, "Pass the separator between"),
        (["test", "{run}", "{other}", "--label-separator", "|"], 1, "does not know the classes pink, yellow"),
        (
            ["split-data", "{table}", "--label-separator", "$", "--out", "{out}", "--mode", "copy"],
            2,
            "--mode",
        ),
        (["split-data", "{photos}", "--label-separator", "$", "--out", "{out}"], 1, "apply only to a CSV"),
        (
            ["train-head", "{caches}", "--out", "{out}", "--head", "knn"],
            1,
            "knn supports one label per",
        ),
        (
            ["train-head", "{caches}", "--out", "{out}", "--from", "{single}"],
            1,
            "predicts one label per image",
        ),
        (
            ["train-head", "{caches}", "--out", "{out}", "--threshold", "x"],
            2,
            "threshold must be a number or one of single, per-class",
        ),
        (
            ["train-head", "{caches}", "--out", "{out}", "--class-weight-multiplier", 2],
            2,
            "--class-weight-multiplier has no effect with --class-weight none",
        ),
    ],
)
def test_commands__explain_what_is_wrong(
    arguments, code, message, fastcls, made, table, trained, photos, tmp_path
):
    other = tmp_path / "other.csv"
    other.write_text(f"path,labels\n{table.parent / '00.png'},pink|red\n{table.parent / '01.png'},yellow\n")
    places = {"run": made / "run", "data": made / "data", "caches": made / "caches", "table": table}
    places |= {"single": trained.run, "photos": photos, "other": other, "out": tmp_path / "out"}
    result = fastcls(*(str(argument).format(**places) for argument in arguments))
    assert result.code == code and message.format(**places) in result.err
    assert not (tmp_path / "out").exists()


def test_extract__a_cache_knows_which_kind_it_serves(made, table, cut, tmp_path):
    config = ExtractConfig(executor="inline")
    one = tmp_path / "one.csv"
    one.write_text("path,label\n" + "".join(f"{table.parent / f'{n:02}.png'},{n % 2}\n" for n in range(80)))
    root = shutil.copytree(made / "caches", tmp_path / "caches")
    cache, figures = extract(Dataset.open(one), cut, root, config)
    assert figures.forwarded == 0 and cache.listing.report().task is ONE_LABEL
    cache, figures = extract(Dataset.open(one, label_separator="$"), cut, root, config)
    assert (
        figures.forwarded == 0 and cache.listing.report().task is SEVERAL_LABELS
    )  # the same rows, of another kind
    assert Cache.find(root, "data").listing.report().task is SEVERAL_LABELS
    assert Cache.find(root, "data").samples() == Cache.find(made / "caches").samples()

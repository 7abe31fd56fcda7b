"""The commands one after the other, as a user types them, and what they leave behind."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastcls.cache.store import Cache
from fastcls.engines import tensorflow
from fastcls.inference.classifier import Classifier
from fastcls.pipeline import load_head

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def test_commands__lead_from_photos_to_predictions(fastcls, photos: Path, base: Path, tmp_path: Path):
    data, caches, run = tmp_path / "data", tmp_path / "caches", tmp_path / "runs" / "colors"
    assert fastcls("split-data", photos, "--out", data, "--val", 0.2, "--test", 0.1).code == 0
    extracted = fastcls("extract", data, "--base", base, "--cache", caches, "--workers", 2)
    assert extracted.code == 0 and ": 60 forwarded, 0 reused, 0 unreadable" in extracted.out
    trained = fastcls("train-head", caches, "--out", run, "--learning-rate", 0.05)
    assert trained.code == 0 and "trained on 42 images, validated on 12" in trained.out
    for name in ("classifier.keras", "head.keras", "history.csv", "curves.png", "run.json", "tensorboard"):
        assert (run / name).exists(), name

    tested = fastcls("test", run, data)
    assert tested.code == 0 and "accuracy 1.000 [1.000, 1.000] (6 of 6 images)" in tested.out
    assert json.loads((run / "test" / "data" / "metrics.json").read_text())["accuracy"] == 1.0
    names = sorted(path.name for path in (run / "test" / "data").iterdir())
    assert names == [
        *("confusion.csv", "confusion.png", "metrics.json", "per_class.csv", "predictions.csv"),
        *("reliability.csv", "reliability.png", "thresholds.csv"),
    ]

    predicted = fastcls("predict", run, data / "test", photos / "red" / "0.png", "--json")
    lines = [json.loads(line) for line in predicted.out.splitlines()]
    assert len(lines) == 7 and predicted.code == 0
    assert all(Path(line["path"]).parent.name == line["predictions"][0]["class"] for line in lines)


@pytest.mark.parametrize("is_split", [False, True])
def test_extract__what_it_says_comes_next_works(fastcls, photos, base, tmp_path, is_split):
    data = tmp_path / "data"
    if is_split:
        assert fastcls("split-data", photos, "--out", data).code == 0
    plain = ("--base", base, "--precision", "float32", "--workers", 1, "--cache", tmp_path / "caches")
    extracted = fastcls("extract", data if is_split else photos, *plain)
    following = extracted.out.partition("Next: fastcls ")[2].split()
    assert ("--val" in following) != is_split  # what is split has images to validate on
    trained = fastcls(*(tmp_path / "run" if part == "runs/NAME" else part for part in following))
    assert trained.code == 0, trained.err


def test_extract__says_who_computed_and_how_exactly(fastcls, photos, base, tmp_path, caplog):
    pytest.importorskip("openvino")
    asked = ("extract", photos, "--base", base, "--precision", "float32", "--cache", tmp_path)
    by_openvino = fastcls("--verbose", *asked, "--cut", "conv", "--engine", "openvino")
    assert by_openvino.code == 0, by_openvino.err
    assert re.search(
        r"^openvino in float32, 1 worker x \d+ threads?, batches of 8\n"
        r"Precision: float32, checked against Keras on \d+ crops of sample photos: within limits$",
        by_openvino.out,
        re.MULTILINE,
    )
    assert "SUCCESS" not in by_openvino.out  # OpenVINO reads the command line too
    assert re.search(r"median relative error \S+ \(largest \S+\), median cosine \S+", caplog.text)
    caplog.clear()
    by_keras = fastcls(*asked, "--engine", "tensorflow", "--workers", 2, "--batch-size", 5)
    assert re.search(r"^tensorflow in float32, 2 workers x .*, batches of 5$", by_keras.out, re.MULTILINE)
    assert "checked against" not in by_keras.out
    again = fastcls(*asked)
    assert "60 reused" in again.out and "workers" not in again.out and "median" not in caplog.text


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--precision bfloat16", "this CPU has no native bfloat16 support"),
        ("--engine tensorflow --precision bfloat16", "Use --precision float32, or auto"),
        ("--engine tensorflow --precision int8", "only openvino can"),
        ("--engine tensorflow --precision float16", "no GPU of compute capability 7.0"),
        ("--engine openvino", "pip install openvino"),
        ("--precision int8", "pip install openvino"),
    ],
)
def test_extract__what_this_machine_lacks_is_named_and_leaves_nothing(
    fastcls, photos, base, tmp_path, monkeypatch, options, complaint
):
    monkeypatch.setattr(tensorflow, "cpu_flags", set)
    monkeypatch.setattr(tensorflow, "gpus", list)
    monkeypatch.setitem(sys.modules, "openvino", None)
    result = fastcls("extract", photos, "--base", base, "--cache", tmp_path / "c", *options.split())
    assert result.code == 1
    assert result.err.startswith("Error: ") and complaint in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "c").exists() or not list((tmp_path / "c").iterdir())


def test_run__tensorflow_alone_is_enough(fastcls, photos, base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(tensorflow, "cpu_flags", set)  # no bfloat16
    result = fastcls("run", photos, "--base", base, "--out", tmp_path / "run", "--cache", tmp_path / "cache")
    assert result.code == 0 and not result.err, result.err
    assert re.search(r"^tensorflow in float32, \d+ workers? x .*$", result.out, re.MULTILINE)
    assert "60 forwarded" in result.out and "(12 of 12 images)" in result.out


def test_run__does_all_in_one_and_a_second_run_forwards_nothing(fastcls, photos, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = _state(photos)
    first = fastcls("run", photos, "--base", base, "--out", "runs/one", "--learning-rate", 0.05)
    assert first.code == 0, first.err
    assert "60 forwarded" in first.out and "(12 of 12 images)" in first.out
    second = fastcls("run", photos, "--base", base, "--out", "runs/two", "--layers", "8,0.2")
    assert second.code == 0, second.err
    assert "0 forwarded, 60 reused" in second.out
    assert _state(photos) == before


def test_every_bottleneck_gives_the_prediction_of_its_image(trained, photos):
    rows = trained.cache.samples()
    bottlenecks = trained.cache.index().locate([row.digest for row in rows]).read()
    head = load_head(trained.run)
    results = Classifier.load(trained.run).predict([photos / row.path for row in rows])
    direct = np.stack([result.probabilities for result in results])
    np.testing.assert_allclose(head.model.predict(bottlenecks, verbose=0), direct, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("extract nowhere --base {base}", r"nowhere"),
        ("extract {photos} --base mobilenetv4 --cache {out}", "closest names are mobilenetv2"),
        ("extract {photos} --base {base} --cut pool --cache {out}", "closest cut points are pooled"),
        ("extract {photos} --base {photos} --cache {out}", "not a Keras model file"),
        ("extract {photos} --base {base} --include-top --cache {out}", "Leave --include-top out"),
        ("extract {photos} --base {base} --size 32 --cache {out}", "takes images of 16x16"),
        ("train-head nowhere --out {out}/run", "No bottleneck cache in nowhere"),
        ("train-head {photos} --out {out}/run", "No bottleneck cache"),
        ("train-head {cache} --out {photos}", "already exists"),
        ("train-head {cache} --out {out}/run --from {photos}", "not a run folder"),
        ("train-head {cache} --out {out}/run --head {photos}/head.py:head", "existing file"),
        ("test {photos} {photos}", "no classifier"),
        ("predict nowhere {photos}", "no classifier"),
        ("run {photos} --base {base} --out {photos}", "already exists"),
        ("run {photos} --base {base} --out {out}/run --val 0.7 --test 0.5", "0.7"),
        ("run {photos} --base {base} --out {out}/run --epochs 0", "epochs must be 1 or more"),
        ("extract {photos} --base {base} --shard-size 0", "shard_size must be 1 or more"),
        ("run {photos} --base {base} --out {out}/run --learning-rate -1", "must be positive"),
        ("train-head {cache} --out {out}/run --warmup 50", "warmup must be less than epochs"),
        ("train-head {cache} --out {out}/run --label-smoothing 1", "below 1"),
        ("run {photos} --base {base} --out {out}/run --val 0 --schedule plateau", "needs validation images"),
    ],
)
def test_a_mistake__is_named_and_leaves_nothing(
    fastcls, photos, base, trained, tmp_path, arguments, complaint
):
    out = tmp_path / "out"
    values = {"photos": photos, "base": base, "out": out, "cache": trained.cache.folder}
    filled = [part.format(**values) for part in arguments.split()]
    result = fastcls(*filled)
    assert result.code == 1
    assert result.err.startswith("Error: ") and complaint in result.err
    assert "Traceback" not in result.err
    assert not out.exists() or not [path for path in out.rglob("*") if path.is_file()]


def test_run__of_split_data_keeps_its_parts(fastcls, photos, base, tmp_path):
    data = tmp_path / "data"
    assert fastcls("split-data", photos, "--out", data, "--val", 0.2, "--test", 0.1).code == 0
    asked = ("run", data, "--base", base, "--out", tmp_path / "run", "--cache", tmp_path / "caches")
    refused = fastcls(*asked, "--val", 0.2)
    assert refused.code == 1 and "is already split" in refused.err
    assert not (tmp_path / "run").exists() and not (tmp_path / "caches").exists()
    assert "(6 of 6 images)" in fastcls(*asked, "--learning-rate", 0.05).out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("extract {photos}", "--base"),
        ("extract {photos} --base {base} --size big", "not a size"),
        ("extract {photos} --base {base} --pool middle", "Unknown pool: 'middle'"),
        ("extract {photos} --base {base} --engine torch", "Unknown engine: 'torch'"),
        ("extract {photos} --base {base} --precision half", "Unknown precision: 'half'"),
        ("train-head {photos} --out x --layers 8,a", "not a list of units"),
        (
            "train-head {photos} --out x --head logreg --epochs 50 --layers 8",
            "--layers, --epochs have no effect with --head logreg. Remove them.",
        ),
        ("train-head {photos} --out x --head logreg --from y --batch-size 32", "--from, --batch-size have"),
        ("run {photos} --base {base} --out x --head knn --train-batch-size 8", "--train-batch-size has"),
        ("train-head {photos} --out x --head knn --optimizer adam --epochs 9", "--optimizer, --epochs have"),
        ("train-head {photos} --out x --head prototype --epochs 9 --l2 0", "--epochs, --l2 have"),
        ("train-head {photos} --out x --head knn --bottleneck-norm l2", "--bottleneck-norm has no effect"),
        ("train-head {photos} --out x --head knn --from y", "--from has no effect with --head knn"),
        ("train-head {photos} --out x --head x.py:f --layers 8", "--layers has no effect with --head x.py:f"),
        ("train-head {photos} --out x --head knn --momentum 0.9 --warmup 0", "--momentum, --warmup have"),
        ("train-head {photos} --out x --schedule cosine --rate-factor 0.1", "--rate-factor has no effect"),
        ("train-head {photos} --out x --head knn --bottleneck-norm l2", "--bottleneck-norm has no effect"),
        ("train-head {photos} --out x --momentum 0.9", "--momentum has no effect with --optimizer Adam"),
        ("train-head {photos} --out x --head nearest", "Unknown head: 'nearest'"),
        ("train-head {photos} --out x --optimizer SDG", "Unknown optimizer: 'SDG'"),
        ("fly", "No such command 'fly'"),
    ],
)
def test_wrong_usage__exits_with_2(fastcls, photos, base, arguments, complaint):
    result = fastcls(*[part.format(photos=photos, base=base) for part in arguments.split()])
    assert result.code == 2
    assert complaint in result.err


def test_a_run_that_fails__leaves_no_folder(fastcls, trained, tmp_path):
    options = ("--learning-rate", 1e30, "--layers", "64,64")
    result = fastcls("train-head", trained.cache.folder, "--out", tmp_path / "runs" / "one", *options)
    assert result.code == 1 and "NaN or infinite" in result.err
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_test__refuses_classes_that_the_classifier_does_not_know(fastcls, photos, trained, tmp_path):
    other = shutil.copytree(photos, tmp_path / "other")
    (other / "red").rename(other / "pink")
    result = fastcls("test", trained.run, other)
    assert result.code == 1
    assert "does not know the classes pink" in result.err and "blue, green, red" in result.err


def test_predict__goes_on_after_unreadable_images(fastcls, photos, trained, tmp_path):
    images = shutil.copytree(photos / "red", tmp_path / "späte\nFotos")
    (images / "1.png").write_bytes(b"")
    result = fastcls("predict", trained.run, images, "--csv", "--top-k", 9)
    assert result.code == 1
    rows = list(csv.DictReader(result.out.splitlines(keepends=True)))
    assert len(rows) == 19 * 3 and {row["rank"] for row in rows} == {"1", "2", "3"}
    assert "empty file" in result.err


def test_help__loads_no_tensorflow():
    code = "import sys; sys.argv = ['fastcls', '--help']\n"
    code += "try:\n    from fastcls.cli.main import main; main()\nexcept SystemExit: pass\n"
    code += "print({'tensorflow', 'keras', 'cv2', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real photos and weights are not here")
def test_run__real_photos_and_weights_reach_logistic_regression(fastcls, tmp_path):
    weights = SHARED / "weights" / "mobilenet_v2_1.0_224_no_top.weights.h5"
    result = fastcls(
        *("run", SHARED / "flowers-1000", "--base", "mobilenetv2", "--weights", weights),
        *("--out", tmp_path / "run", "--cache", tmp_path, "--workers", 2),
    )
    assert result.code == 0, result.err
    ours = json.loads((tmp_path / "run" / "test" / "flowers-1000" / "metrics.json").read_text())["accuracy"]
    assert ours >= _logistic_regression(Cache.find(tmp_path)) - 0.015
    assert ours > 0.82


def _logistic_regression(cache: Cache) -> float:
    from sklearn.linear_model import LogisticRegression

    rows = cache.samples()
    features = cache.index().locate([row.digest for row in rows]).read()
    labels, splits = np.array([row.label for row in rows]), np.array([row.split for row in rows])
    train, test = splits == "train", splits == "test"
    fitted = LogisticRegression(C=0.03, max_iter=2000).fit(features[train], labels[train])
    return float(fitted.score(features[test], labels[test]))


def _state(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_version__is_printed(fastcls):
    assert fastcls("--version").out.startswith("fastcls, version ")


def test_main__a_folder_where_a_file_should_be_is_told_in_one_line(fastcls, trained, tmp_path: Path) -> None:
    cache = shutil.copytree(trained.cache.folder, tmp_path / "cache")
    table = sorted(cache.rglob("*.csv"))[-1]
    table.unlink()
    table.mkdir()
    result = fastcls("train-head", cache, "--out", tmp_path / "run")
    assert result.code == 1
    assert table.name in result.err
    assert len(result.err.splitlines()) == 1

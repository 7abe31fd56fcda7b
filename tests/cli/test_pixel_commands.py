"""How pixels are made travels with a model, and every command obeys it."""

import csv
import json
import re
import zipfile

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fastcls.cache.store import Cache
from fastcls.cli.main import cli
from fastcls.data.decoder import decode, pixel_rule
from fastcls.inference.classifier import Classifier

SIZE = (16, 16)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A JPEG that is scaled down while it is decoded, unless that is forbidden."""
    path = tmp_path_factory.mktemp("photo") / "noise.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = path.read_bytes()
    assert not np.array_equal(decode(data, SIZE), decode(data, SIZE, full_decode=True))
    return path


@pytest.fixture(scope="module")
def full_run(photos, base, tmp_path_factory):
    """A run that was made with --full-decode."""
    folder = tmp_path_factory.mktemp("full")
    options = ["--base", base, "--full-decode", "--precision", "float32", "--engine", "tensorflow"]
    options += ["--executor", "inline", "--epochs", 1, "--no-report"]
    options += ["--cache", folder / "caches", "--out", folder / "run"]
    result = CliRunner().invoke(cli, ["run", *map(str, [photos, *options])], catch_exceptions=False)
    assert result.exit_code == 0
    return folder / "run"


@pytest.fixture(scope="module")
def crop_run(photos, base, tmp_path_factory):
    """A run that was made with --resize crop."""
    folder = tmp_path_factory.mktemp("crop")
    options = ["--base", base, "--resize", "crop", "--precision", "float32", "--engine", "tensorflow"]
    options += ["--executor", "inline", "--epochs", 1, "--no-report"]
    options += ["--cache", folder / "caches", "--out", folder / "run"]
    result = CliRunner().invoke(cli, ["run", *map(str, [photos, *options])], catch_exceptions=False)
    assert result.exit_code == 0
    return folder / "run"


def middles_of(photo):
    """By slices and documented calls of OpenCV: photos of 24x30 at 16x16."""
    middle = cv2.imread(str(photo))[:, 3:27, ::-1]
    return cv2.resize(np.ascontiguousarray(middle), SIZE, interpolation=cv2.INTER_LINEAR)


def pixels_of(run):
    """What travels with a classifier, in both places."""
    with zipfile.ZipFile(run / "classifier.keras") as archive:
        inside = json.loads(archive.read("fastcls.json"))["pixels"]
    assert json.loads((run / "run.json").read_text())["decided_by"]["pixels"] == inside
    return inside


def as_json(rule):
    return {"size": list(rule.size), "decode": rule.decode, "resize": rule.resize}


def predicted(fastcls, run, photo):
    classes = json.loads(fastcls("predict", run, photo, "--top-k", 3, "--json").out)["predictions"]
    return {found["class"]: found["confidence"] for found in classes}


def test_rule__is_that_of_the_cache_and_predict_obeys_it(fastcls, trained, full_run, photo):
    assert pixels_of(trained.run) == as_json(pixel_rule(SIZE))
    assert pixels_of(full_run) == as_json(pixel_rule(SIZE, full_decode=True))
    for run, full in ((trained.run, False), (full_run, True)):
        classifier = Classifier.load(run)
        image = decode(photo.read_bytes(), SIZE, full_decode=full)
        expected = classifier.model.predict(image[None], verbose=0)[0]
        found = predicted(fastcls, run, photo)
        np.testing.assert_allclose([found[name] for name in classifier.class_names], expected, atol=1e-5)


def test_crop__is_seen_by_all_that_predict(fastcls, crop_run, photos, tmp_path):
    classifier = Classifier.load(crop_run)
    assert pixels_of(crop_run) == as_json(pixel_rule(SIZE, resize="crop"))
    photo = photos / "red" / "3.png"
    expected = classifier.model.predict(middles_of(photo)[None], verbose=0)[0]
    found = predicted(fastcls, crop_run, photo)
    np.testing.assert_allclose([found[name] for name in classifier.class_names], expected, atol=1e-5)
    tested = fastcls("test", crop_run, photos, "--out", tmp_path / "test")
    assert tested.code == 0, tested.err
    rows = list(csv.DictReader((tmp_path / "test" / "predictions.csv").open()))
    for row in rows:
        probabilities = classifier.model.predict(middles_of(photos / row["path"])[None], verbose=0)[0]
        assert row["predicted"] == classifier.class_names[probabilities.argmax()]
        assert float(row["confidence"]) == pytest.approx(probabilities.max(), abs=1e-5)
    assert rows


def test_extract__stretched_and_cropped_rows_are_two_caches_of_one_trunk(fastcls, photos, base, tmp_path):
    options = [
        "--base",
        base,
        "--cache",
        tmp_path / "caches",
        "--precision",
        "float32",
        "--executor",
        "inline",
    ]
    for resize in ("stretch", "crop", "crop"):
        done = fastcls("extract", photos, *options, "--resize", resize)
        assert done.code == 0, done.err
    caches = [Cache(path) for path in sorted((tmp_path / "caches").iterdir()) if path.is_dir()]
    assert {cache.manifest.resize for cache in caches} == {
        pixel_rule(SIZE, resize=resize).resize for resize in ("stretch", "crop")
    }
    assert len(caches) == 2 and len({cache.manifest.weights_digest for cache in caches}) == 1


def test_finetune__keeps_the_rule_of_its_run_unless_it_is_told(
    fastcls, trained, full_run, crop_run, photos, tmp_path
):
    options = ["--val", 0.2, "--epochs", 1, "--train", "none", "--augment", "none", "--checkpoint-every", 1]
    for start, more, asked in (
        (trained.run, [], {}),
        (full_run, ["--resize", "crop"], {"full_decode": True, "resize": "crop"}),
        (crop_run, ["--full-decode"], {"full_decode": True, "resize": "crop"}),
    ):
        out = tmp_path / f"{start.parent.name}-{len(more)}"
        result = fastcls("finetune", photos, "--from", start, "--out", out, *options, *more)
        assert result.code == 0, result.err
        assert pixels_of(out) == as_json(pixel_rule(SIZE, **asked))
        kept = Classifier.load(out / "checkpoints" / "epoch-0001.keras")
        assert kept.pixels == pixel_rule(SIZE, **asked)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda known: known["pixels"].update(resize="crop/1"), "Unknown pixel rule: .*'crop/1'"),
        (lambda known: known["pixels"].update(decode="full/9 opencv/9"), "Unknown pixel rule: 'full/9"),
        (lambda known: known["pixels"].update(size=[32, 32]), "does not take images of"),
        (lambda known: known["pixels"].pop("size"), "does not say how its pixels are made"),
        (lambda known: known.update(pixels=7), "does not say how its pixels are made"),
        (lambda known: known.pop("pixels"), "does not say how its pixels are made"),
    ],
)
def test_predict__refuses_a_rule_that_it_does_not_know(fastcls, trained, photo, tmp_path, change, words):
    source, path = trained.run / "classifier.keras", tmp_path / "classifier.keras"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "fastcls.json":
                known = json.loads(data)
                change(known)
                data = json.dumps(known)
            new.writestr(name, data)
    result = fastcls("predict", path, photo)
    assert result.code == 1 and "Traceback" not in result.err and result.out == ""
    assert re.search(words, result.err), result.err


def test_max_pixels__is_known_to_every_command_that_decodes(fastcls, trained, photos, photo, base, tmp_path):
    result = fastcls("predict", trained.run, photo, "--max-pixels", 255)
    assert result.code == 1 and "16x16 (256) pixels exceed the limit of 255" in result.err  # at its scale
    assert fastcls("predict", trained.run, photo, "--max-pixels", 256).code == 0
    tested = fastcls("test", trained.run, photos, "--max-pixels", 719, "--out", tmp_path / "test")
    assert tested.code == 1 and "None of the 12 test images" in tested.err
    options = ["--base", base, "--max-pixels", 719]
    for command in (
        ["extract", photos, *options, "--cache", tmp_path / "caches"],
        ["finetune", photos, *options, "--out", tmp_path / "run", "--val", 0.2],
    ):
        result = fastcls(*command)
        assert result.code == 1 and "None of the 60 images" in result.err, result.err

"""A classifier of the names of classes: from photos through the commands, against the formulas."""

import csv
import json

import numpy as np
import pytest
from towers_support import text_row, token_ids, write_model

from fastcls import Classifier, files
from fastcls.backend import import_keras
from fastcls.cache.store import Cache
from fastcls.pipeline import load_head
from fastcls.specs import TrainConfig
from fastcls.training.rows.selection import select

NAMES = ("blue", "green", "red")
PROMPTS = {"clip": "a photo of a {}.", "siglip": "This is a photo of {}."}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of each family, and its tensors."""
    for name in ("keras_hub", "safetensors.numpy", "tokenizers"):
        pytest.importorskip(name)
    root = tmp_path_factory.mktemp("models")
    return {kind: (root / kind, write_model(root / kind, kind)) for kind in PROMPTS}


@pytest.fixture(scope="module")
def several(photos, tmp_path_factory):
    """A table of the photos, in which some have two classes."""
    table = tmp_path_factory.mktemp("several") / "photos.csv"
    with table.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "labels", "split"])
        for place, path in enumerate(sorted(photos.rglob("*.png"))):
            labels = [path.parent.name, *(["red"] if place % 3 == 0 and path.parent.name != "red" else [])]
            lines.writerow([path, json.dumps(labels), ("train", "val", "train", "test")[place % 4]])
    return table


def cosines(cache, model, prompts):
    """Cosines (N, C) of the bottlenecks to train on, and the scale."""
    folder, state = model
    rows = select(cache, TrainConfig(val=None)).train.rows.read().astype(float)
    if folder.name == "clip":
        rows = rows @ state["visual_projection.weight"].T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = [
        np.mean([text_row(state, token_ids(text, folder.name), folder.name) for text in own], axis=0)
        for own in prompts
    ]
    return rows @ np.array([mean / np.linalg.norm(mean) for mean in means]).T


def of_train(cache, run):
    """The probabilities of the classifier's head on the bottlenecks to train on."""
    head = import_keras().saving.load_model(run / "head.keras")
    return head.predict(select(cache, TrainConfig(val=None)).train.rows.read(), verbose=0)


def only_cache(folder):
    (place,) = folder.iterdir()
    return Cache(place)


def test_one_label__run_then_test_then_linear(fastcls, models, photos, tmp_path):
    """Softmax of what CLIP makes of texts; a linear head starts there, and so does one with --from."""
    base, run, caches = f"keras_hub:{models['clip'][0]}", tmp_path / "zero", tmp_path / "caches"
    asked = ("run", photos, "--base", base, "--head", "text", "--cache", caches, "--val", "0.2")
    asked = (*asked, "--precision", "float32", "--executor", "inline", "--out", run)
    result = fastcls(*asked, "--dry-run")
    assert "Texts: 3 prompts of 3 classes, such as 'a photo of a blue.'" in result.out, result.err
    assert "Head: text, which no image has a part in" in result.out
    result = fastcls(*asked)
    assert result.code == 0, result.err
    assert "3 classes by 3 prompts, validated on" in result.out
    cache = only_cache(caches)
    logits = 7 * cosines(cache, models["clip"], [[PROMPTS["clip"].format(name)] for name in NAMES])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(of_train(cache, run), expected, atol=1e-5)
    record = files.read_checked_json(run / "run.json")
    assert record["images"]["train"] == 0 < record["images"]["val"]
    assert record["decided_by"]["head"]["prompts"] == PROMPTS["clip"]

    # All images are new to it, those to train on too; on images it is what it is on the cache.
    classifier = Classifier.load(run)
    tested = classifier.test(photos, cache=caches)
    direct = classifier.test(photos, through_model=True)
    for ours, theirs in zip(tested.predictions, direct.predictions, strict=True):
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-5)

    # Trained further: as little as nothing, and then the last layer alone.
    asked = ("train-head", cache.folder, "--val", "0.2", "--epochs", "1", "--out")
    same = fastcls(*asked, tmp_path / "same", "--prompts", PROMPTS["clip"], "--learning-rate", "1e-9")
    assert "--head auto takes linear, as --prompts" in same.out, same.err
    np.testing.assert_allclose(of_train(cache, tmp_path / "same"), expected, atol=1e-5)
    record = files.read_checked_json(tmp_path / "same" / "run.json")
    assert record["decided_by"]["training"]["loss"]["l2"] == 0
    assert fastcls(*asked, tmp_path / "more", "--from", run, "--learning-rate", "0.01").code == 0
    before, after = (load_head(tmp_path / name).model.layers for name in ("same", "more"))
    names = ["bottleneck", "head_projection", "head_unit_length", "head_probabilities"]
    assert [layer.name for layer in after] == names
    np.testing.assert_array_equal(before[1].get_weights()[0], after[1].get_weights()[0])
    assert abs(before[3].get_weights()[0] - after[3].get_weights()[0]).min() > 1e-3


@pytest.mark.parametrize("kind", PROMPTS)
def test_several_labels__a_sigmoid_of_each_class(fastcls, models, several, tmp_path, kind):
    base, run = f"keras_hub:{models[kind][0]}", tmp_path / "zero"
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a {}\nred: the color of blood\nred: crimson\n")
    result = fastcls(
        *("run", several, "--base", base, "--head", "text", "--prompts", prompts, "--out", run),
        *("--cache", tmp_path / "caches", "--precision", "float32", "--executor", "inline"),
    )
    assert result.code == 0, result.err
    cache = only_cache(tmp_path / "caches")
    logits = 7 * cosines(cache, models[kind], [["a blue"], ["a green"], ["the color of blood", "crimson"]])
    logits += -1.5 if kind == "siglip" else -logits.mean()
    np.testing.assert_allclose(of_train(cache, run), 1 / (1 + np.exp(-logits)), atol=1e-5)
    assert (run / "test" / "photos" / "metrics.json").exists() and "Thresholds: " in result.out


def test_what_does_not_fit_is_refused_before_anything_is_done(fastcls, models, photos, tmp_path):
    clip, caches = f"keras_hub:{models['clip'][0]}", tmp_path / "caches"
    asked = ("run", photos, "--cache", caches, "--out", tmp_path / "run", "--head")
    for more, message in (
        (("text", "--base", "lenet5", "--weights", "random"), "lenet5 has no text tower"),
        (("text", "--base", clip, "--pool", "mean"), "layer layer_norm, pooling avg. Extract without --cut"),
        (("text", "--base", clip, "--cut", "block_0", "--pool", "cls"), "bottlenecks of layer block_0"),
        (("text", "--base", clip, "--last", "1"), "bottlenecks of layer last_1"),
        (("text", "--base", clip, "--weights", "random"), "does not fit its text tower"),
        (("text", "--base", clip, "--prompts", "fox"), "--prompts takes a file, or a template"),
        (("linear", "--base", clip, "--prompts", "fox"), "--prompts takes a file, or a template"),
        (("text", "--base", clip, "--prompts", "{}" + 40 * "a"), "tokens, the text tower takes 40"),
        (("text", "--base", clip, "--epochs", "3"), "--epochs has no effect with --head text"),
        (("logreg", "--base", clip, "--prompts", "{}"), "--prompts has no effect with --head logreg"),
        (
            ("linear", "--base", clip, "--prompts", "{}", "--layers", "8"),
            "--layers has no effect with --prompts",
        ),
    ):
        result = fastcls(*asked, *more, *(("--dry-run",) if "fox" in more else ()))
        assert result.code in (1, 2) and message in result.err, result.err
    assert not caches.exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", PROMPTS)
def test_train_head__a_model_that_was_exchanged_since_the_extraction(fastcls, models, photos, tmp_path, kind):
    folder, caches, run = tmp_path / "model", tmp_path / "caches", tmp_path / "run"
    write_model(folder, kind)
    base = f"keras_hub:{folder}"
    # Whatever else decides the trunk is the same.
    asked = ("extract", photos, "--base", base, "--cache", caches, "--size", "16", "--normalize", "caffe")
    assert fastcls(*asked, "--dtype", "float16", "--executor", "inline").code == 0
    cache = only_cache(caches).folder
    name = "vision_model.encoder.layers.1.mlp.fc2.bias"
    write_model(folder, kind, **{name: models[kind][1][name] + 0.1})
    for more in (("--head", "text"), ("--head", "text", "--dry-run"), ("--prompts", "a {}")):
        result = fastcls("train-head", cache, *more, "--val", "0.2", "--out", run)
        told = f"{base} is not the model any more that {cache} was made of: the part that sees images has"
        assert result.code == 1 and told in result.err, result.err
        assert len(result.err.strip().splitlines()) == 1 and not run.exists()
    # Neither a part that reads texts nor a file beside it makes another trunk.
    write_model(folder, kind, **{"text_model.final_layer_norm.bias": np.ones(8, "f")})
    result = fastcls("train-head", cache, "--head", "text", "--val", "0.2", "--out", run)
    assert result.code == 0, result.err

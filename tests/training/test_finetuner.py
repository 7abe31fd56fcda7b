"""Training on images is training on cached bottlenecks, only slower; and what the cache cannot do."""

import random
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fastcls import pipeline
from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import Decoder, pixel_rule
from fastcls.data.views import augment
from fastcls.errors import DataError, OptionError
from fastcls.extraction.extractor import extract
from fastcls.inference.classifier import Classifier
from fastcls.plans import finetuning
from fastcls.specs import (
    BaseSpec,
    CheckpointSpec,
    CutSpec,
    ExtractConfig,
    FinetuneSpec,
    HeadSpec,
    LogSpec,
    LossSpec,
    OptimizerSpec,
    Recipe,
    TrainConfig,
)
from fastcls.training import networks
from fastcls.training.finetuner import finetune
from fastcls.training.head_trainer import train_head
from fastcls.training.loop import passes
from fastcls.training.rows.images import ImageFeed, Images

keras = import_keras()
layers = keras.layers
SIZE = (16, 16)
DECODER = Decoder(pixel_rule(SIZE))
CONFIG = TrainConfig(OptimizerSpec("SGD", momentum=0.9), epochs=3, batch_size=5, learning_rate=0.05, val=0.25)
PLAIN = {"augment": "none", "mixed_precision": "float32"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    keras.utils.set_random_seed(1)
    image = keras.Input((*SIZE, 3))
    x = layers.Conv2D(6, 3, strides=2, name="one")(image)
    x = layers.Dropout(0.3, name="drop")(layers.BatchNormalization(name="one_bn")(x))
    x = layers.ReLU(name="cut")(x)
    x = layers.Conv2D(6, 3, padding="same", name="two")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="two_bn")(x))
    model = keras.Model(image, layers.Conv2D(8, 3, name="three")(x))
    path = tmp_path_factory.mktemp("base") / "base.keras"
    model.save(path)
    return BaseSpec(str(path), normalize="tf")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    pixels_of = np.random.default_rng(0)
    for number in range(24):
        place = folder / ("dark" if number % 2 else "light")
        place.mkdir(exist_ok=True)
        pixels = pixels_of.integers(0, 200, (*SIZE, 3)) + 50 * (number % 2)
        cv2.imwrite(str(place / f"{number:02}.png"), pixels.astype(np.uint8))
    return Dataset.open(folder)


@pytest.mark.parametrize(
    ("train", "layer", "kind"), [("none", None, "linear"), ("from two", "cut", "tail")], ids=["head", "tail"]
)
def test_finetune__is_what_training_from_the_cache_is(photos, base, tmp_path, train, layer, kind):
    cut = CutSpec(base, layer, precision="float32")
    cache, _ = extract(photos, cut, tmp_path, ExtractConfig(engine="tensorflow", executor="inline"))
    cached = train_head(cache, HeadSpec(kind), replace(CONFIG, loss=LossSpec(l2=0.0)))
    live = finetune(photos, base, FinetuneSpec(train, **PLAIN), CONFIG)
    assert (live.train_count, live.val_count) == (cached.train_count, cached.val_count) == (18, 6)
    names = ("loss", "val_loss", "accuracy", "val_accuracy")
    figures = [[[row[name] for name in names] for row in done.history] for done in (live, cached)]
    np.testing.assert_allclose(*figures, rtol=1e-4)
    for layer in cached.model.layers:
        for one, other in zip(
            live.model.get_layer(layer.name).get_weights() if layer.weights else (),
            layer.get_weights(),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, atol=1e-4)


def test_finetune__draws_looks_and_order_anew_in_each_epoch(photos, base):
    images = Images([photos.locate(sample) for sample in photos.samples], DECODER)
    labels = np.array([sample.labels[0] for sample in photos.samples])
    recipe, places = Recipe.parse("flip,rotate=20"), np.arange(len(labels))
    feed = ImageFeed(images, places, labels, 5, 7, recipe)
    epochs = {}
    for epoch in (1, 2, 1):
        batches = [(pixels.numpy(), found.numpy()) for pixels, found in feed.batches(epoch)]
        seen = np.concatenate([pixels for pixels, _ in batches])
        np.testing.assert_array_equal(epochs.setdefault(epoch, seen), seen)
        order = np.random.default_rng((7, epoch)).permutation(len(labels))
        np.testing.assert_array_equal(np.concatenate([found for _, found in batches]), labels[order])
        expected = [augment(images[place], recipe, (7, images.digests[place], epoch)) for place in order]
        np.testing.assert_array_equal(seen, expected)
        blocks = [np.asarray(pixels) for pixels, _, _ in feed.blocks(epoch)]
        np.testing.assert_array_equal(np.concatenate(blocks), seen)
    assert not np.array_equal(np.sort(epochs[1], axis=0), np.sort(epochs[2], axis=0))


def test_images__that_do_not_fit_into_memory_are_decoded_again(photos, monkeypatch):
    paths = [photos.locate(sample) for sample in photos.samples]
    kept = Images(paths, DECODER)
    monkeypatch.setattr("fastcls.training.rows.images.available_memory", lambda: 0)
    streamed = Images(paths, DECODER)
    assert kept.digests == streamed.digests
    np.testing.assert_array_equal([kept[p] for p in range(24)], [streamed[p] for p in range(24)])


def test_finetune__goes_on_exactly_after_an_interruption(photos, base, tmp_path, monkeypatch):
    config = TrainConfig(
        "Adam", epochs=4, batch_size=5, learning_rate=0.01, val=0.25, logs=LogSpec(log_steps=1)
    )
    spec = FinetuneSpec("all", train_batch_norm=True, mixed_precision="float32")
    whole = finetune(photos, base, spec, config, folder=tmp_path / "whole")

    make = passes.KerasPasses.train

    def failing(*arguments):
        run = make(*arguments)

        def run_or_stop(epoch, begun):
            if epoch == 3:
                raise KeyboardInterrupt
            return run(epoch, begun)

        return run_or_stop

    monkeypatch.setattr(passes.KerasPasses, "train", failing)
    monkeypatch.setattr("fastcls.training.loop.checkpoints._LOSE_AT_MOST_S", 0)
    with pytest.raises(KeyboardInterrupt):
        finetune(photos, base, spec, config, folder=tmp_path / "parts")
    monkeypatch.setattr(passes.KerasPasses, "train", make)
    parts = finetune(photos, base, spec, config, folder=tmp_path / "parts")
    for one, other in zip(whole.model.get_weights(), parts.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    steps = [(tmp_path / name / "steps.csv").read_text() for name in ("whole", "parts")]
    assert steps[0] == steps[1] and len(steps[0].splitlines()) == 1 + 4 * 4


@pytest.mark.parametrize("weights_random", [False, True])
def test_finetune__trains_batch_normalization_from_scratch_only(photos, weights_random):
    start = BaseSpec("lenet5", weights="random") if weights_random else None
    spec = FinetuneSpec(train_batch_norm=None)
    found = networks.trains_batch_norm(start or BaseSpec("mobilenetv2"), spec)
    assert found == weights_random


def test_finetune__moving_averages_follow_a_short_training(photos, base):
    slow = load_base(base).model
    for layer in slow.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9999
    slow.save(base.name + ".slow.keras")
    start = BaseSpec(base.name + ".slow.keras", normalize="tf")
    config = TrainConfig("SGD", epochs=12, batch_size=6, learning_rate=1e-6, val=0.25)
    done = finetune(photos, start, FinetuneSpec("all", train_batch_norm=True, **PLAIN), config)
    pixels = np.stack([cv2.imread(str(photos.locate(s)))[..., ::-1] for s in photos.samples])
    seen = done.model.get_layer("one")(pixels / 127.5 - 1).numpy()
    mean = done.model.get_layer("one_bn").moving_mean
    np.testing.assert_allclose(mean, seen.mean(axis=(0, 1, 2)), atol=0.05)


def test_finetune__computes_in_mixed_precision_and_saves_float32(photos, base, tmp_path):
    config = TrainConfig("Adam", epochs=1, batch_size=6, val=0.25)
    spec = FinetuneSpec("all", augment="none", mixed_precision="mixed_bfloat16")
    mixed = finetune(photos, base, spec, config)
    full = finetune(photos, base, FinetuneSpec("all", **PLAIN), config)
    assert mixed.best["loss"] != full.best["loss"]
    assert mixed.best["loss"] == pytest.approx(full.best["loss"], rel=0.1)
    assert {layer.dtype_policy.name for layer in mixed.model.layers} <= {"float32", "uint8"}


def test_finetune__on_two_devices_is_as_on_one(photos, base):
    # Two CPUs made of one stand for two GPUs; they must be made before TensorFlow starts.
    code = f"""
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from pathlib import Path
import numpy as np
from fastcls.data.dataset import Dataset
from fastcls.specs import BaseSpec, FinetuneSpec, TrainConfig
from fastcls.errors import OptionError
from fastcls.training import finetuner, networks

def train():
    config = TrainConfig("SGD", epochs=2, batch_size=6, learning_rate=0.05, val=0.25)
    spec = FinetuneSpec("from two", augment="flip", mixed_precision="float32")
    data = Dataset.open(Path({str(photos.root)!r}))
    return finetuner.finetune(data, BaseSpec({base.name!r}, normalize="tf"), spec, config)

one = train()
networks._strategy = lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
two = train()
for some, others in zip(one.model.get_weights(), two.model.get_weights(), strict=True):
    np.testing.assert_allclose(some, others, atol=1e-5)
names = "loss", "accuracy", "val_loss", "val_accuracy"
figures = [[[row[name] for name in names] for row in done.history] for done in (one, two)]
np.testing.assert_allclose(*figures, rtol=1e-4)

from fastcls.plans.finetuning import plan_finetuning
data, uneven = Dataset.open(Path({str(photos.root)!r})), TrainConfig(batch_size=5, val=0.25)
try:
    plan_finetuning(data, BaseSpec({base.name!r}, normalize="tf"), FinetuneSpec(), uneven, Path("none/run"))
    raise AssertionError("the plan promises what the training refuses")
except OptionError as error:
    assert "multiple of the 2 GPUs" in str(error), error
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_finetune__goes_on_from_a_run(photos, base, tmp_path):
    first = finetune(photos, base, FinetuneSpec("none", **PLAIN), CONFIG)
    start = Classifier(first.model, first.class_names, first.pixels, {})
    before = [weight.copy() for weight in first.model.get_weights()]
    second = finetune(photos, start, FinetuneSpec("2", **PLAIN), CONFIG)
    assert second.model is first.model
    changed = [not np.array_equal(*pair) for pair in zip(before, second.model.get_weights(), strict=True)]
    assert any(changed) and not all(changed)
    with pytest.raises(OptionError, match="downscale has no effect with a classifier"):
        finetune(photos, start, FinetuneSpec(downscale=2), CONFIG)
    other = Classifier(first.model, ("dark", "lighter"), first.pixels, {})
    with pytest.raises(OptionError, match="has the classes dark, lighter"):
        finetune(photos, other, FinetuneSpec(), CONFIG)


def test_finetune__leaves_unreadable_images_out_and_says_so(photos, base, tmp_path):
    for sample in photos.samples:
        place = tmp_path / sample.path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(photos.locate(sample).read_bytes())
    (tmp_path / "dark" / "broken.png").write_bytes(b"")
    done = finetune(Dataset.open(tmp_path), base, FinetuneSpec("none", **PLAIN), CONFIG)
    assert done.unreadable == {str(tmp_path / "dark" / "broken.png"): "empty file"}
    assert (done.train_count, done.val_count) == (18, 6)


def test_finetune__needs_validation_images(photos, base):
    with pytest.raises(DataError, match=r"has no validation part.*--val 0\.2"):
        finetune(photos, base, FinetuneSpec("none", **PLAIN), TrainConfig(epochs=1))


def test_finetune__scales_the_loss_for_float16_and_keeps_checkpoints_in_float32(
    photos, base, tmp_path, monkeypatch
):
    make, found = passes.KerasPasses.train, []

    def train(self, model, *rest):
        found.append(type(model.optimizer).__name__)
        return make(self, model, *rest)

    monkeypatch.setattr(passes.KerasPasses, "train", train)
    config = TrainConfig(epochs=1, batch_size=9, val=0.25, checkpoints=CheckpointSpec(checkpoint_every=1))
    finetune(photos, base, FinetuneSpec(mixed_precision="mixed_float16"), config, folder=tmp_path)
    assert found == ["LossScaleOptimizer"]
    kept = Classifier.load(tmp_path / "checkpoints" / "epoch-0001.keras").model
    assert not [layer.name for layer in kept.layers if "mixed" in layer.dtype_policy.name]


def test_finetune__the_same_seed_gives_the_same_network(photos, base):
    networks = []
    for state in (1, 2):
        random.seed(state)  # what Python's random numbers were before does not count
        config = TrainConfig("SGD", epochs=1, batch_size=9, learning_rate=0.05, val=0.25)
        networks.append(finetune(photos, base, FinetuneSpec("all", **PLAIN), config).model)
    for one, other in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(one, other)


def test_image_feed__an_image_that_is_drawn_again_looks_anew(photos):
    images = Images([photos.locate(sample) for sample in photos.samples], DECODER)
    labels = np.array([0] * 22 + [1] * 2)  # each of the last two is drawn about six times
    feed = ImageFeed(images, np.arange(24), labels, 24, 3, Recipe.parse("rotate=40"), balanced=True)
    ((pixels, found),) = feed.batches(1)
    rare = pixels.numpy()[found.numpy() == 1]
    assert len(rare) == len(np.unique(rare, axis=0)) == 12
    blocks = [np.asarray(block) for block, _, _ in feed.blocks(1)]
    np.testing.assert_array_equal(np.concatenate(blocks), pixels)


def test_plan_finetuning__trains_batch_normalization_by_the_weights_that_were_asked_for(
    photos, monkeypatch, tmp_path
):
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "no weights"))
    base = BaseSpec("mobilenetv2", size=(32, 32))
    plan = finetuning.plan_finetuning(photos, base, FinetuneSpec(), CONFIG, tmp_path / "run")
    assert not plan.networks.is_whole and "from Conv1 to head_probabilities" in str(plan)
    norms = [layer for layer in plan.networks.trainee.layers if isinstance(layer, layers.BatchNormalization)]
    assert norms and not any(layer.trainable for layer in norms)


def test_finetune__of_a_plan_is_that_without_one_and_builds_nothing_again(photos, tmp_path, monkeypatch):
    base, head, spec = BaseSpec("lenet5", weights="random"), HeadSpec(layers=(8, 0.5)), FinetuneSpec()
    config = TrainConfig(epochs=2, val=0.25, seed=3)
    alone = finetune(photos, base, spec, config, head=head)
    plan = finetuning.plan_finetuning(photos, base, spec, config, tmp_path / "run", head=head)
    monkeypatch.setattr(networks, "build_network", None)
    planned = pipeline.finetune_planned(plan)
    for one, other in zip(alone.model.get_weights(), planned.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch", [23, 22, 24, 5])
def test_image_feed__no_batch_is_too_small_for_the_devices(photos, batch):
    images = Images([photos.locate(sample) for sample in photos.samples], DECODER)
    labels = np.arange(24)
    train, val = (ImageFeed(images, labels, labels, batch, seed) for seed in (0, None))
    trained, validated = ([len(rows) for _, rows in feed.batches(1, least=3)] for feed in (train, val))
    assert min(trained + validated) >= 3
    assert 24 - sum(trained) < 3 and sum(validated) == 24

"""Fine-tuning that prunes: what is pruned, how it ends, and that it survives interruptions."""

import json
import zipfile

import cv2
import numpy as np
import pytest

from fastcls import interrupts
from fastcls.backend import import_keras
from fastcls.data.dataset import Dataset
from fastcls.errors import OptionError
from fastcls.inference.classifier import Classifier
from fastcls.specs import BaseSpec, FinetuneSpec, TrainConfig
from fastcls.training.finetuner import finetune
from fastcls.training.loop.pruning import Pruner

keras = import_keras()
layers = keras.layers
SIZE = (16, 16)
SPARSE = FinetuneSpec(augment="flip", mixed_precision="float32", train_batch_norm=True, sparsity=0.7)
CONFIG = TrainConfig("AdamW", epochs=6, batch_size=5, learning_rate=0.01, val=0.25, patience=2)
PRUNED = {"pointwise": 8 * 12, "separable": 12 * 8, "attention/query": 64, "attention/key": 64}
PRUNED |= {"attention/value": 64, "attention/attention_output": 64}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    keras.utils.set_random_seed(1)
    image = keras.Input((*SIZE, 3))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, name="first")(image))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.Conv2D(12, 1, name="pointwise")(x)
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    x = layers.Reshape((9, 8))(x)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(image, layers.GlobalAveragePooling1D()(x))
    path = tmp_path_factory.mktemp("base") / "base.keras"
    model.save(path)
    return BaseSpec(str(path), normalize="tf")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(24):
        place = folder / ("dark" if number % 2 else "light")
        place.mkdir(exist_ok=True)
        pixels = random.integers(0, 200, (*SIZE, 3)) + 50 * (number % 2)
        cv2.imwrite(str(place / f"{number:02}.png"), pixels.astype(np.uint8))
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def whole(photos, base):
    return finetune(photos, base, SPARSE, CONFIG)


def test_finetune__prunes_each_kernel_as_far_as_asked_and_nothing_else(whole):
    expected = {name: {"weights": size, "zeros": round(0.7 * size)} for name, size in PRUNED.items()}
    assert whole.pruned == expected
    kernels = {
        weight.path.split("/")[-2]: np.array(weight)
        for weight in whole.model.trainable_weights
        if "kernel" in weight.name and (np.array(weight) != 0).all()
    }
    assert set(kernels) == {"first", "depthwise", "separable", "probabilities"}
    assert kernels["separable"].shape == (3, 3, 12, 1)  # its depthwise one
    assert whole.classifier.described["pruned"] == expected


def test_finetune__keeps_an_epoch_that_is_as_sparse_as_asked(whole):
    shares = [row["sparsity"] for row in whole.history]
    goal = sum(round(0.7 * size) for size in PRUNED.values()) / sum(PRUNED.values())
    assert shares == sorted(shares) and 0 < shares[0] < shares[1] < shares[2]
    assert shares[3:] == pytest.approx([goal] * (len(shares) - 3), abs=1e-6) and len(shares) > 4
    assert whole.best["epoch"] >= 4  # half of six, and the patience of two begins there
    sparse = [row for row in whole.history if row["sparsity"] == shares[-1]]
    assert whole.best == min(sparse, key=lambda row: row["val_loss"])


def test_finetune__the_pruned_file_is_ordinary_keras_and_compresses(whole, photos, base, tmp_path):
    whole.classifier.save(tmp_path / "pruned.keras")
    with zipfile.ZipFile(tmp_path / "pruned.keras") as archive:
        assert "Masked" not in (config := archive.read("config.json").decode())
        assert '"kernel_constraint": {' not in json.dumps(json.loads(config))
    plain = keras.models.load_model(tmp_path / "pruned.keras")
    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    np.testing.assert_array_equal(plain.predict(images, verbose=0), whole.model.predict(images, verbose=0))
    further = finetune(photos, Classifier.load(tmp_path / "pruned.keras"), SPARSE, CONFIG)
    assert further.history[0]["sparsity"] == whole.best["sparsity"]  # zeros are zeros from the start
    assert further.pruned == whole.pruned


@pytest.mark.parametrize("at", [7, 19])
def test_finetune__pruning_goes_on_exactly_after_an_interruption(
    at, whole, photos, base, tmp_path, monkeypatch
):
    """Within the rise (step 7 of 24; four are an epoch), and after it."""
    plain = Pruner.before

    def stop(self, step):
        plain(self, step)
        if step == at:
            interrupts._state.is_pending = True  # as a signal does

    monkeypatch.setattr(Pruner, "before", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune(photos, base, SPARSE, CONFIG, folder=tmp_path / "run")
    monkeypatch.setattr(Pruner, "before", plain)
    resumed = finetune(photos, base, SPARSE, CONFIG, folder=tmp_path / "run")
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    rows = [[{**row, "seconds": 0} for row in done.history] for done in (whole, resumed)]
    assert rows[0] == rows[1] and whole.best["epoch"] == resumed.best["epoch"]


@pytest.mark.parametrize(
    ("train", "message"),
    [("none", "sparsity has no effect with --train none"), ("from none", "no layer 'none'")],
)
def test_finetune__refuses_to_prune_what_is_not_trained(train, message, photos, base):
    with pytest.raises(OptionError, match=message):
        finetune(photos, base, FinetuneSpec(train, augment="none", sparsity=0.5), CONFIG)


def test_finetune__needs_a_kernel_to_prune(photos, tmp_path):
    image = keras.Input((*SIZE, 3))
    x = layers.DepthwiseConv2D(3)(layers.Conv2D(8, 3)(image))
    keras.Model(image, layers.GlobalAveragePooling2D()(x)).save(tmp_path / "base.keras")
    base = BaseSpec(str(tmp_path / "base.keras"), normalize="tf")
    with pytest.raises(OptionError, match=r"there are no others\. Received: --train 'all'"):
        finetune(photos, base, SPARSE, CONFIG)


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, float("nan"), "most"])
def test_sparsity__is_a_share(share):
    with pytest.raises(OptionError, match="sparsity must be"):
        FinetuneSpec(sparsity=share)

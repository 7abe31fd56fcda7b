"""A weights file fills its own architecture, all of it; anything else is an error, never a part of it."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.bases.registry import ARCHITECTURES, build
from fastcls.bases.weights import count_classes, load_weights
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "weights"
SUFFIXES = (".weights.h5", ".h5", ".keras")


def chain(length, *, rate=0.1):
    """A model in which Keras's own names of a shorter chain's weights are those of a longer one."""
    keras = import_keras()
    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 255)(layers.RandomFlip()(image))
    x = layers.Conv2D(4, 3, padding="same")(x)
    for _ in range(length):
        x = layers.Conv2D(4, 3, padding="same")(x)
    return keras.Model(image, layers.Dropout(rate)(layers.BatchNormalization()(x)))


def save(model, path):
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_load_weights__fills_all(suffix, tmp_path):
    source, target = chain(2), chain(2)
    for weight in source.weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    source.compile("adam", "mse")
    source.fit(np.ones((4, 8, 8, 3)), np.ones((4, 8, 8, 4)), verbose=0)  # the file holds an optimizer too
    load_weights(target, save(source, tmp_path / f"w{suffix}"), "chain")
    for one, other in zip(source.weights, target.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("held", "wanted"), [(4, 2), (2, 4)])
def test_load_weights__refuses_a_longer_or_shorter_look_alike(suffix, held, wanted, tmp_path):
    path = save(chain(held), tmp_path / f"w{suffix}")
    with pytest.raises(OptionError, match="do not fit chain"):
        load_weights(chain(wanted), path, "chain")


def test_load_weights__refuses_other_files(tmp_path):
    model = chain(1)
    whole = save(model, tmp_path / "whole.weights.h5").read_bytes()
    truncated = tmp_path / "truncated.weights.h5"
    truncated.write_bytes(whole[: len(whole) // 2])
    text = tmp_path / "text.h5"
    text.write_text("not HDF5")
    for path, message in ((truncated, "is damaged: it is truncated"), (text, "damaged: it is no HDF5 file")):
        with pytest.raises(OptionError, match=message):
            load_weights(model, path, "chain")
    (tmp_path / "w.txt").write_text("")
    for path in (tmp_path / "missing.weights.h5", tmp_path, tmp_path / "w.txt"):
        with pytest.raises(OptionError, match=r"existing .*Received: "):
            load_weights(model, path, "chain")


@pytest.mark.parametrize(
    ("suffix", "name", "classes"),
    [
        *((suffix, "squeezenet1_1", 7) for suffix in SUFFIXES),
        *((".weights.h5", "mobilenet", 7), (".h5", "mobilenet", None), (".keras", "squeezenet1_1", None)),
    ],
)
def test_load_base__takes_the_part_before_the_classifier(suffix, name, classes, tmp_path):
    whole = build(ARCHITECTURES[name], (64, 64), None, include_top=True, classes=classes)
    for weight in whole.weights:
        weight.assign(np.random.default_rng(0).uniform(0.1, 0.2, weight.shape))
    path = save(whole, tmp_path / f"w{suffix}")
    base = load_base(BaseSpec(name, weights=str(path), size=(96, 96)))
    assert len(base.model.weights) == len(whole.weights) - 2
    for ours, theirs in zip(base.model.weights, whole.weights, strict=False):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_load_base__keeps_a_classifier_of_other_classes(tmp_path):
    whole = build(ARCHITECTURES["squeezenet1_1"], (64, 64), None, include_top=True, classes=7)
    path = str(save(whole, tmp_path / "w.weights.h5"))
    base = load_base(BaseSpec("squeezenet1_1", weights=path, size=(64, 64), include_top=True))
    assert base.model.output_shape == (None, 7)


def test_load_base__refuses_weights_of_another_application(tmp_path):
    narrow = import_keras().applications.MobileNet(
        weights=None, alpha=0.25, include_top=False, input_shape=(96, 96, 3)
    )
    path = save(narrow, tmp_path / "w.weights.h5")
    with pytest.raises(OptionError, match="do not fit mobilenet"):
        load_base(BaseSpec("mobilenet", weights=str(path), size=(96, 96)))


def test_load_base__explains_a_failed_download(monkeypatch):
    from keras.src.applications import mobilenet

    def fail(name, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- unreachable")

    monkeypatch.setattr(mobilenet.file_utils, "get_file", fail)
    monkeypatch.setenv("KERAS_HOME", "/some/keras")
    with pytest.raises(OptionError, match=r"cannot be downloaded .*--weights PATH.*/some/keras/models"):
        load_base("mobilenet")


@pytest.mark.skipif(not SHARED.exists(), reason="the pretrained weights are not there")
def test_load_base__takes_real_files_with_and_without_classifier():
    whole, part = (
        load_base(BaseSpec("mobilenetv2", weights=str(SHARED / f"mobilenet_v2_1.0_224{name}.weights.h5")))
        for name in ("", "_no_top")
    )
    for one, other in zip(whole.model.weights, part.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    for name in ("mobilenet_v2_0.35_224_no_top", "mobilenet_v1_1.0_224_no_top"):
        with pytest.raises(OptionError, match="do not fit mobilenetv2"):
            load_base(BaseSpec("mobilenetv2", weights=str(SHARED / f"{name}.weights.h5")))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_load_weights__of_a_damaged_file_fails_in_one_way(suffix, tmp_path):
    model, random = chain(1), np.random.default_rng(0)
    whole = save(model, tmp_path / f"w{suffix}").read_bytes()
    damaged = tmp_path / f"damaged{suffix}"
    for trial in range(60):
        data = bytearray(whole)
        if trial % 4:  # the first kilobytes are HDF5's own
            for place in random.integers(min(len(data), 4000 if trial % 2 else len(data)), size=8):
                data[place] ^= 1 << int(random.integers(8))
        else:
            del data[int(random.integers(len(data))) :]
        damaged.write_bytes(data)
        for read in (lambda: load_weights(model, damaged, "chain"), lambda: count_classes(damaged, model)):
            with contextlib.suppress(OptionError):
                read()

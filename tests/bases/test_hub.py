"""Backbones of keras_hub, from a preset folder; what does not need the package is tested without it."""

import json
import sys

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.hub import _normalization, is_preset
from fastcls.bases.loader import is_function, load_base
from fastcls.cutter import bottleneck_model, cut, cut_points
from fastcls.errors import MissingExtraError, OptionError
from fastcls.specs import BaseSpec, parse_mean_std


@pytest.fixture
def hub():
    import_keras()
    return pytest.importorskip("keras_hub")


def make_backbone(hub):
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 16],
        stackwise_num_blocks=[1, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    for weight in backbone.weights:
        weight.assign(np.random.default_rng(0).uniform(-0.1, 0.1, weight.shape) + 0.05)
    return backbone


@pytest.fixture
def preset(hub, tmp_path):
    """A folder with a backbone and what it wants of its images."""
    backbone = make_backbone(hub)
    backbone.save_to_preset(str(tmp_path / "preset"))
    converter = hub.layers.ResNetImageConverter(
        image_size=(32, 24), scale=[1 / 50, 1 / 60, 1 / 70], offset=[-2.0, -1.5, -1.0]
    )
    converter.save_to_preset(str(tmp_path / "preset"))
    return backbone, f"keras_hub:{tmp_path / 'preset'}"


def test_load_base__preset_with_its_size_and_normalization(preset):
    backbone, name = preset
    base = load_base(name)
    assert base.size == (32, 24) and len(cut_points(base.model)) > 4
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)
    made = bottleneck_model(cut(base, pool="none"))
    normalized = pixels / np.array([50, 60, 70]) - np.array([2, 1.5, 1])
    expected = backbone(normalized.astype("float32")).numpy()
    np.testing.assert_allclose(made(pixels).numpy(), expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_load_base__preset_with_other_weights_and_size(preset):
    backbone, name = preset
    base = load_base(BaseSpec(name, weights="random", size=(40, 40), normalize="torch"))
    assert (base.size, base.normalize) == ((40, 40), "torch")
    assert not np.allclose(base.model.weights[0], backbone.weights[0])
    with pytest.raises(OptionError, match="has its own weights"):
        load_base(BaseSpec(name, weights="imagenet"))


def test_load_base__preset_without_image_converter(hub, tmp_path):
    make_backbone(hub).save_to_preset(str(tmp_path / "preset"))
    name = f"keras_hub:{tmp_path / 'preset'}"
    with pytest.raises(OptionError, match=r"any image size\. Choose one with --size"):
        load_base(name)
    with pytest.raises(OptionError, match=r"Set --normalize .*MEAN,STD"):
        load_base(BaseSpec(name, size=(32, 32)))
    assert load_base(BaseSpec(name, size=(32, 32), normalize="tf")).model.output_shape == (None, 4, 4, 16)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dinov2_smal", "keras_hub has no preset 'dinov2_smal', .* closest presets are dinov2_small, "),
        ("bert_base_en", "is a BertBackbone, which does not take images. `fastcls bases` lists families"),
        ("gemma3_4b", "is a Gemma3Backbone, a language model that is shown images too"),
        (
            "videoprism_public_v1_base",
            "VideoPrismBackbone, a model of videos: its VideoPrismFactorizedReshape",
        ),
        ("{folder}", r"has no config\.json: it is no preset\. Expected a folder"),
        ("", "keras_hub: lacks the preset"),
        ("{folder}/text/config.json", r"is a file\. Give the folder"),
        ("{folder}/damaged", r"config\.json is damaged"),
        ("{folder}/list", r"config\.json is damaged: it holds no JSON object"),
        ("{folder}/text", "is a BertBackbone, which does not take images"),
    ],
)
def test_load_base__presets_that_are_refused_without_a_download(hub, tmp_path, monkeypatch, name, message):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a download"))
    for folder, text in (("damaged", "{"), ("list", "[]"), ("text", '{"class_name": "BertBackbone"}')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(text)
    with pytest.raises(OptionError, match=message):
        load_base("keras_hub:" + name.format(folder=tmp_path))


CONFIG = {"model_type": "dinov2", "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("config", "preprocessor", "message"),
    [
        (CONFIG, ["size"], r"preprocessor_config\.json is damaged: AttributeError"),
        (CONFIG, {"size": 8, "image_mean": 1}, r"preprocessor_config\.json is damaged: KeyError"),
        ({**CONFIG, "num_hidden_layers": 1}, None, r"num_hidden_layers=1, and the weights .* of 2 layers"),
        (
            {**CONFIG, "num_hidden_layers": "2"},
            None,
            r"num_hidden_layers='2', and .* of 2 layers",
        ),
        ({**CONFIG, "vision_config": [1]}, None, r"config\.json is damaged: AttributeError"),
        ({"model_type": "clip", "vision_config": [1]}, None, r"config\.json is damaged: TypeError"),
        ({"model_type": "clip", "image_size": "large"}, None, r"config\.json is damaged: ValueError"),
    ],
)
def test_load_base__folders_whose_files_do_not_hold_what_they_ought_to(
    hub, tmp_path, config, preprocessor, message
):
    numpy_files = pytest.importorskip("safetensors.numpy")
    tensors = {f"encoder.layer.{number}.norm1.weight": np.ones(2, "f") for number in range(2)}
    numpy_files.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    with pytest.raises(OptionError, match=message):
        load_base(f"keras_hub:{tmp_path}")


def test_load_base__weights_of_a_folder_that_are_cut_off(hub, tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy")
    numpy_files.save_file({"encoder.layer.0.norm1.weight": np.ones(99, "f")}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-50])
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": 1}))
    with pytest.raises(OptionError, match=r"model\.safetensors is damaged"):
        load_base(f"keras_hub:{tmp_path}")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OptionError, match=r"has no model\.safetensors"):
        load_base(f"keras_hub:{tmp_path}")


def test_load_base__preset_needs_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastcls\[hub\]'$"):
        load_base("keras_hub:resnet_18_imagenet")


def test_is_preset__and_no_function():
    assert is_preset("keras_hub:resnet_18_imagenet") and not is_function("keras_hub:resnet_18_imagenet")
    assert is_function("keras_hubs:make") and not is_preset("keras_hubs:make")


@pytest.mark.parametrize(
    ("scale", "offset", "mean", "std"),
    [
        (1 / 255, None, (0,), (255,)),
        (1 / 127.5, -1.0, (127.5,), (127.5,)),
        ([1 / 50, 1 / 60, 1 / 70], [-2, -1, 0], (100, 60, 0), (50, 60, 70)),
        (None, [-100, -110, -120], (100, 110, 120), (1, 1, 1)),
    ],
)
def test_normalization__of_a_converter(scale, offset, mean, std):
    received = parse_mean_std(_normalization(scale, offset))
    np.testing.assert_allclose(received, (mean, std), rtol=1e-12)


def test_normalization__none():
    assert _normalization(None, None) == _normalization(1, [0, 0, 0]) == "none"

"""Image towers of CLIP and SigLIP in folders of Hugging Face. `test_transformers.py` has the originals."""

import json

import numpy as np
import pytest
from towers_support import SIDE, VISION, WIDTH, vision_state

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.bases.towers import read_tower
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

import_keras()


@pytest.fixture
def folder(tmp_path):
    """Writes a folder of a model of images and texts, and gives the base."""
    numpy = pytest.importorskip("safetensors.numpy")
    pytest.importorskip("keras_hub")

    def write(model_type, state, **vision):
        config = {"model_type": model_type, "vision_config": {**VISION, **vision}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        others = {
            "text_model.embeddings.token_embedding.weight": np.zeros((3, 4), "f"),
            "logit_scale": np.ones((), "f"),
            "vision_model.embeddings.position_ids": np.arange(10)[None],
        }
        numpy.save_file({**state, **others}, tmp_path / "model.safetensors")
        return BaseSpec(f"keras_hub:{tmp_path}", normalize="torch")

    return write


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_read_tower__every_value_has_one_place(model_type, folder, tmp_path):
    hub, state = pytest.importorskip("keras_hub"), vision_state(model_type)
    folder(model_type, state)
    config = json.loads((tmp_path / "config.json").read_text())
    tower = read_tower(hub, tmp_path, config, None, with_weights=True)
    weights = [np.ravel(weight) for weight in tower.weights if weight.dtype == "float32"]
    np.testing.assert_array_equal(
        *(np.sort(np.concatenate(each)) for each in (weights, [np.ravel(t) for t in state.values()]))
    )


def test_load_base__of_another_size_has_positions_between_the_known(folder):
    spec = folder("clip", vision_state("clip"))
    base = load_base(BaseSpec(spec.name, size=(20, 20), normalize="torch"))
    assert base.model.output_shape == (None, 1 + 25, WIDTH) and base.prefix_tokens == 1
    with pytest.raises(OptionError, match=r"patches of 4x4 pixels\. Received: .*such as 16x16 or 20x20"):
        load_base(BaseSpec(spec.name, size=(18, 18), normalize="torch"))
    with pytest.raises(OptionError, match="height and width to be the same"):
        load_base(BaseSpec(spec.name, size=(12, 20), normalize="torch"))


def test_load_base__folders_that_do_not_hold_what_they_say(folder, tmp_path):
    state = vision_state("siglip")
    first = "vision_model.encoder.layers.0.mlp.fc1.weight"
    for change, message in (
        ({first: np.zeros((3, WIDTH), "f")}, r"layers\.0\.mlp\.fc1 has another shape"),
        ({"vision_model.more.weight": np.zeros(2, "f")}, r"more\.weight has no place"),
    ):
        with pytest.raises(OptionError, match=f"SigLIPVisionEncoder of its config.json: .*{message}"):
            load_base(folder("siglip", {**state, **change}))
    with pytest.raises(OptionError, match=r"layers\.0\.mlp\.fc1\.weight is missing"):
        load_base(folder("siglip", {name: tensor for name, tensor in state.items() if name != first}))
    with pytest.raises(OptionError, match=r"hidden_act='relu' .*has hidden_act gelu_pytorch_tanh or gelu"):
        load_base(folder("siglip", state, hidden_act="relu"))
    spec = folder("siglip", state)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(OptionError, match=r"model\.safetensors is damaged"):
        load_base(spec)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OptionError, match=r"has no model\.safetensors"):
        load_base(spec)


def test_load_base__of_a_file_in_parts(folder, tmp_path):
    numpy, state = pytest.importorskip("safetensors.numpy"), vision_state("siglip")
    spec = folder("siglip", state)
    images = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3))
    expected = load_base(spec).model(images)
    whole, index = tmp_path / "model.safetensors", tmp_path / "model.safetensors.index.json"
    whole.unlink()
    names = sorted(state)
    parts = {f"model-0000{n + 1}-of-00003.safetensors": names[n::3] for n in range(3)}
    for part, own in parts.items():
        numpy.save_file({name: state[name] for name in own}, tmp_path / part)
    index.write_text(json.dumps({"weight_map": {name: part for part in parts for name in parts[part]}}))
    np.testing.assert_array_equal(load_base(spec).model(images), expected)
    (tmp_path / part).unlink()
    with pytest.raises(OptionError, match=rf"lacks {part}, which {index.name} names"):
        load_base(spec)
    for damaged in ("{", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        index.write_text(damaged)
        with pytest.raises(OptionError, match=rf"{index.name} is damaged"):
            load_base(spec)


def test_load_base__of_images_of_any_shape(folder, tmp_path):
    spec = folder("siglip", vision_state("siglip"))
    for kind in ("siglip2", "siglip2_vision_model"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(OptionError, match=r"\(naflex\)\. Take one for images of one size"):
            load_base(spec)

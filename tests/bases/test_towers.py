"""Image towers of CLIP and SigLIP in folders of Hugging Face. `test_transformers.py` has the originals."""

import json

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.bases.towers import read_tower
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

import_keras()
WIDTH, SIDE, PATCH = 8, 12, 4
VISION = {
    **{"hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"image_size": SIDE, "patch_size": PATCH},
}


def state_of(model_type):
    """Random tensors with the names and shapes that transformers gives them."""
    random = np.random.default_rng(0)

    def dense(name, given, made):
        return {f"{name}.weight": (made, given), f"{name}.bias": (made,)}

    def norm(name):
        return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}

    positions = (SIDE // PATCH) ** 2 + (model_type == "clip")
    shapes = {
        "embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": (positions, WIDTH),
        **norm("post_layernorm"),
    }
    if model_type == "clip":
        shapes |= {"embeddings.class_embedding": (WIDTH,), **norm("pre_layrnorm")}
    else:
        shapes |= {"embeddings.patch_embedding.bias": (WIDTH,), "head.probe": (1, 1, WIDTH)}
        shapes |= {"head.attention.in_proj_weight": (3 * WIDTH, WIDTH), **norm("head.layernorm")}
        shapes |= {"head.attention.in_proj_bias": (3 * WIDTH,)}
        shapes |= dense("head.attention.out_proj", WIDTH, WIDTH)
        shapes |= {**dense("head.mlp.fc1", WIDTH, 12), **dense("head.mlp.fc2", 12, WIDTH)}
    for number in range(2):
        block = f"encoder.layers.{number}"
        for role in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= dense(f"{block}.self_attn.{role}", WIDTH, WIDTH)
        shapes |= {**norm(f"{block}.layer_norm1"), **norm(f"{block}.layer_norm2")}
        shapes |= {**dense(f"{block}.mlp.fc1", WIDTH, 12), **dense(f"{block}.mlp.fc2", 12, WIDTH)}
    return {
        f"vision_model.{name}": random.normal(0, 0.3, shape).astype("f") for name, shape in shapes.items()
    }


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
    hub, state = pytest.importorskip("keras_hub"), state_of(model_type)
    folder(model_type, state)
    config = json.loads((tmp_path / "config.json").read_text())
    tower = read_tower(hub, tmp_path, config, None, with_weights=True)
    weights = [np.ravel(weight) for weight in tower.weights if weight.dtype == "float32"]
    np.testing.assert_array_equal(
        *(np.sort(np.concatenate(each)) for each in (weights, [np.ravel(t) for t in state.values()]))
    )


def test_load_base__of_another_size_has_positions_between_the_known(folder):
    spec = folder("clip", state_of("clip"))
    base = load_base(BaseSpec(spec.name, size=(20, 20), normalize="torch"))
    assert base.model.output_shape == (None, 1 + 25, WIDTH) and base.prefix_tokens == 1
    with pytest.raises(OptionError, match=r"patches of 4x4 pixels\. Received: .*such as 16x16 or 20x20"):
        load_base(BaseSpec(spec.name, size=(18, 18), normalize="torch"))
    with pytest.raises(OptionError, match="height and width to be the same"):
        load_base(BaseSpec(spec.name, size=(12, 20), normalize="torch"))


def test_load_base__folders_that_do_not_hold_what_they_say(folder, tmp_path):
    state = state_of("siglip")
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
    numpy, state = pytest.importorskip("safetensors.numpy"), state_of("siglip")
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
    spec = folder("siglip", state_of("siglip"))
    for kind in ("siglip2", "siglip2_vision_model"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        with pytest.raises(OptionError, match=r"\(naflex\)\. Take one for images of one size"):
            load_base(spec)

"""Transformers of keras_hub, opened: the same outputs from Keras's own layers alone."""

import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.hub import _read_folder as hub_folder
from fastcls.bases.loader import load_base
from fastcls.bases.opening.foreign import open_layers
from fastcls.cutter import bottleneck_model, cut, cut_points
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

keras = import_keras()
SIDE = 28
SHAPE = (SIDE, SIDE, 3)
COMMON = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16}
FORMS = {"patch_size": 7, "intermediate_dim": 24, "image_shape": SHAPE}
STAGES = {
    "depths": [1, 1],
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "stem_channels": [3, 8, 8],
    "hidden_act": "relu",
    "use_learnable_affine_block": True,
    "stackwise_stage_filters": [[8, 8, 8, 1, 2, 3], [8, 8, 16, 1, 2, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, True],
    "image_shape": SHAPE,
}
# How many tokens come before the patches.
FAMILIES = {
    "vit": 1,
    "vit_without_class": 0,
    "deit": 2,
    "dinov2": 1,
    "dinov2_with_registers": 4,
    "dinov3": 5,
    "dinov3_gated": 5,
    "siglip": 0,
    "clip": 1,
    "metaclip_2": 1,
}


def make(family):
    """A small backbone with random weights."""
    hub = pytest.importorskip("keras_hub").models
    plain = {"patch_size": (7, 7), "image_shape": SHAPE}
    dinov2 = {**FORMS, "position_embedding_shape": SHAPE}
    towers = {"siglip": hub.SigLIPBackbone, "clip": hub.CLIPBackbone, "metaclip_2": hub.MetaCLIP2Backbone}
    makers = {
        "vit": lambda: hub.ViTBackbone(mlp_dim=24, **plain, **COMMON),
        "vit_without_class": lambda: hub.ViTBackbone(mlp_dim=24, use_class_token=False, **plain, **COMMON),
        "deit": lambda: hub.DeiTBackbone(intermediate_dim=24, **plain, **COMMON),
        "dinov2": lambda: hub.DINOV2Backbone(**dinov2, **COMMON),
        "dinov2_with_registers": lambda: hub.DINOV2Backbone(
            num_register_tokens=3, use_swiglu_ffn=True, **dinov2, **COMMON
        ),
        "dinov3": lambda: hub.DINOV3Backbone(**FORMS, **COMMON),
        "dinov3_gated": lambda: hub.DINOV3Backbone(use_gated_mlp=True, **FORMS, **COMMON),
        "hgnetv2": lambda: hub.HGNetV2Backbone(**STAGES),
        "swin": lambda: hub.SwinTransformerBackbone(
            image_shape=SHAPE, embed_dim=8, depths=[1], num_heads=[2], window_size=7
        ),
        **{name: lambda kind=kind: vision_tower(kind) for name, kind in towers.items()},
    }
    backbone = makers[family]()
    random = np.random.default_rng(0)
    for weight in backbone.weights:
        if weight.dtype == "float32":
            weight.assign(random.normal(0, 0.3, weight.shape))
    return backbone


def vision_tower(kind):
    """The part of a model of images and texts that sees the images."""
    module = __import__(kind.__module__.replace("backbone", "vision_encoder"), fromlist=["_"])
    name = kind.__name__.replace("Backbone", "VisionEncoder")
    return getattr(module, name)(**FORMS, **COMMON)


def output(model, images):
    """What a model says of images, whatever its input is called."""
    return np.asarray(model(dict.fromkeys(model.input, images) if isinstance(model.input, dict) else images))


@pytest.fixture(scope="module")
def opened(images):
    """What each family's backbone says of images, and the flat model, made once."""
    made = {}

    def get(family):
        if family not in made:
            backbone, image = make(family), keras.Input(SHAPE, name="input")
            expected = output(backbone, images)
            found = open_layers(backbone, image)
            model = keras.Model(image, found.output)
            graph.rename_apart(model.operations, taken=())
            made[family] = expected, model, found
        return made[family]

    return get


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(3, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("family", FAMILIES)
def test_opened__equals_the_original_in_layers_of_keras(family, opened, images):
    expected, model, found = opened(family)
    np.testing.assert_allclose(model(images), expected, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 0.1  # images differ
    assert all(graph.is_built_in(operation) for operation in model.operations) and not found.closed
    assert found.prefix_tokens == FAMILIES[family]


@pytest.mark.parametrize("family", FAMILIES)
def test_opened__is_cut_between_blocks(family, opened, images):
    _, model, _ = opened(family)
    points = {point.layer: point.tensor for point in cut_points(model)}
    assert {"block_0", "block_1"} <= points.keys() and "block_2" not in points
    block = points["block_0"]
    trunk, tail = keras.Model(model.input, block), keras.Model(block, model.output)
    np.testing.assert_allclose(tail(trunk(images)), model(images), rtol=1e-5, atol=1e-5)


@pytest.fixture
def preset(tmp_path):
    """Saves a backbone as a preset, and gives its name."""

    def save(family):
        make(family).save_to_preset(str(tmp_path / family))
        return BaseSpec(f"keras_hub:{tmp_path / family}", normalize="torch")

    return save


POOLED = {
    "cls": lambda tokens, prefix: tokens[:, 0],
    "mean": lambda tokens, prefix: tokens[:, prefix:].mean(axis=1),
    "max": lambda tokens, prefix: tokens[:, prefix:].max(axis=1),
    "cls+mean": lambda tokens, prefix: np.hstack([tokens[:, 0], tokens[:, prefix:].mean(axis=1)]),
    "flatten": lambda tokens, prefix: tokens.reshape(len(tokens), -1),
    "none": lambda tokens, prefix: tokens,
}


def test_bottleneck__tokens_are_pooled_without_the_prefix(preset):
    base = load_base(preset("dinov2_with_registers"))
    pixels = np.random.default_rng(2).integers(0, 256, (2, *SHAPE), np.uint8)
    tokens = bottleneck_model(cut(base, pool="none"))(pixels).numpy()
    assert tokens.shape == (2, 1 + 3 + 16, 16)
    for pool, expect in POOLED.items():
        found = bottleneck_model(cut(base, pool=pool))(pixels).numpy()
        np.testing.assert_allclose(found, expect(tokens, 4), rtol=1e-5, atol=1e-5, err_msg=pool)
    assert cut(base).pooling == "cls" and cut(base, "block_0").pooling == "none"


@pytest.mark.parametrize(("family", "end"), [("dinov2", "layernorm"), ("siglip", "post_layer_norm")])
def test_bottleneck__of_the_last_blocks(family, end, preset):
    base = load_base(preset(family))
    norm = base.model.get_layer(end)
    pixels = np.random.default_rng(2).integers(0, 256, (2, *SHAPE), np.uint8)
    blocks = [bottleneck_model(cut(base, f"block_{n}"))(pixels) for n in range(2)]
    expected = np.concatenate([norm(block) for block in blocks], axis=-1)
    made = cut(base, last=2, pool="none")
    np.testing.assert_allclose(bottleneck_model(made)(pixels), expected, rtol=1e-4, atol=1e-5)
    assert (made.layer, made.tail) == ("last_2", None)
    pooled = bottleneck_model(cut(base, last=2))(pixels)
    kept = expected[:, 0] if base.prefix_tokens else expected.mean(axis=1)
    np.testing.assert_allclose(pooled, kept, rtol=1e-4, atol=1e-5)
    with pytest.raises(OptionError, match=r"--last 3: .* has 2 blocks of a transformer\. Ask for fewer"):
        cut(base, last=3)
    with pytest.raises(OptionError, match="Remove one of them"):
        cut(base, "block_0", last=1)


def test_cut__without_class_token(preset):
    base = load_base(preset("vit_without_class"))
    assert cut(base).pooling == "avg"
    with pytest.raises(OptionError, match=r"--pool cls takes a class token\. .*tokens without a class token"):
        cut(base, pool="cls")
    with pytest.raises(OptionError, match=r"is a map of shape \(4, 4, 16\)\. Use --pool avg"):
        cut(base, cut_points(base.model)[0].layer, pool="cls+mean")


def test_load_base__other_sizes(preset):
    spec = preset("dinov2")
    base = load_base(BaseSpec(spec.name, size=(56, 56), normalize="torch"))
    assert base.model.output_shape == (None, 1 + 64, 16)
    with pytest.raises(OptionError, match="takes images of 28x28"):
        load_base(BaseSpec(preset("vit").name, size=(56, 56), normalize="torch"))
    with pytest.raises(OptionError, match="takes images of 28x28"):
        load_base(BaseSpec(spec.name, size=(28, 56), normalize="torch"))


def test_load_base__of_several_outputs_the_deepest(preset):
    assert load_base(preset("hgnetv2")).model.output_shape == (None, 4, 4, 16)


def test_load_base__families_that_cannot_be_opened(preset):
    with pytest.raises(OptionError, match="SwinTransformerBackbone, whose code needs the number of images"):
        load_base(preset("swin"))


def test_folder_of_hugging_face__says_size_and_normalization(tmp_path):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(
        '{"do_rescale": true, "rescale_factor": 0.5, "image_mean": [1, 2, 3], "image_std": [4, 5, 6],'
        ' "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 192}}'
    )
    said = hub_folder(tmp_path)
    assert (said.size, said.normalize) == ((224, 192), "2.0,4.0,6.0,8.0,10.0,12.0")
    file.write_text('{"do_rescale": true, "image_mean": [1, 2, 3]}')
    with pytest.raises(OptionError, match=r"preprocessor_config\.json is damaged: KeyError: 'image_std'"):
        hub_folder(tmp_path)

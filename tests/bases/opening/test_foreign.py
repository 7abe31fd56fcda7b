"""Transformers of keras_hub, opened: the same outputs from Keras's own layers alone."""

import re
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from families_support import EVERY, FAMILIES, SHAPE, TOKENS, make

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.families import REFUSED
from fastcls.bases.hub import _read_folder as hub_folder
from fastcls.bases.hub import _to_the_deepest
from fastcls.bases.loader import load_base
from fastcls.bases.opening.foreign import BLOCK_NAME, open_layers
from fastcls.cutter import bottleneck_model, combined_trunk, cut, cut_points, tail_model
from fastcls.errors import OptionError
from fastcls.plans.wording import describe_constants
from fastcls.specs import BaseSpec

keras = import_keras()
WITHOUT_PRESETS = ("CLIPVisionEncoder", "MetaCLIP2VisionEncoder", "SigLIPVisionEncoder", "ViTDetBackbone")
# What is taken out of them is one of the others.
INSIDE = (
    *("BASNetBackbone", "CLIPBackbone", "DeepLabV3Backbone", "DepthAnythingBackbone", "MetaCLIP2Backbone"),
    *("PARSeqBackbone", "RetinaNetBackbone", "SAMBackbone", "SigLIPBackbone"),
)


def output(model, images):
    """What a model says of images, whatever its input is called."""
    return np.asarray(model(dict.fromkeys(model.input, images) if isinstance(model.input, dict) else images))


@pytest.fixture(scope="module")
def opened(images):
    """What each family's backbone says of images, and the flat model, made once."""
    made = {}

    def get(family):
        if family not in made:
            backbone, image = _to_the_deepest(make(family)), keras.Input(SHAPE, name="input")
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


@pytest.mark.parametrize("family", EVERY)
def test_opened__equals_the_original_in_layers_of_keras(family, opened, images):
    expected, model, found = opened(family)
    np.testing.assert_allclose(model(images), expected, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected, axis=0).max() > 0.05  # images differ
    assert all(graph.is_built_in(operation) for operation in model.operations) and not found.closed
    assert (found.prefix_tokens or 0) == FAMILIES.get(family, 0)
    assert not any(size and size % 1009 == 0 for node in graph.nodes(model) for size in node.outputs[0].shape)


# Numbers of blocks; maps of all others are cut wherever one layer leads to the next.
BLOCKS = {**dict.fromkeys(TOKENS, 2), "mit": 2, "swin": 3, "vitdet": 2}


@pytest.mark.parametrize("family", EVERY)
def test_opened__is_cut_between_blocks(family, opened, images):
    _, model, _ = opened(family)
    points = {point.layer: point.tensor for point in cut_points(model)}
    blocks = {f"block_{number}" for number in range(BLOCKS.get(family, 0))}
    assert blocks == {name for name in points if re.fullmatch(BLOCK_NAME, name)} and len(points) > 3
    name = "block_0" if blocks else list(points)[len(points) // 2]
    trunk, tail = keras.Model(model.input, points[name]), keras.Model(points[name], model.output)
    found, expected = tail(trunk(images)), model(images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


CONSTANTS = {"siglip": "base_head_probe", "swin": "block_1_attn_places", "vitdet": r"einsum(_\d+)?"}


@pytest.mark.parametrize(("family", "constant"), CONSTANTS.items())
def test_load_base__tells_of_constants_and_has_no_layer_named_as_a_head(family, constant, base_of):
    model = base_of(family).model
    (line,) = describe_constants(model)
    assert re.search(rf" {constant}(,|$)", line) and len(line) < 250
    assert not any(operation.name.startswith(graph.HEAD_PREFIX) for operation in model.operations)


def test_every_backbone_of_images_is_opened_or_refused():
    hub = pytest.importorskip("keras_hub")
    kinds = [kind for kind in vars(hub.models).values() if isinstance(kind, type)]
    backbones = {kind for kind in kinds if issubclass(kind, hub.models.Backbone)}
    generic = {hub.models.Backbone, hub.models.FeaturePyramidBackbone}
    of_images = hub.layers.ImageConverter.presets.keys()
    found = {kind.__name__ for kind in backbones - generic if kind.presets.keys() & of_images}
    opened = {kind for kind, *_ in EVERY.values()} - set(WITHOUT_PRESETS)
    assert found == opened | set(REFUSED) | set(INSIDE)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Saves a backbone as a preset, once, and gives it as a base."""
    folder = tmp_path_factory.mktemp("presets")

    def save(family):
        if not (folder / family).exists():
            make(family).save_to_preset(str(folder / family))
        return BaseSpec(f"keras_hub:{folder / family}", normalize="torch")

    return save


@pytest.fixture(scope="module")
def base_of(preset):
    """Loads the base of a family, once."""
    return cache(lambda family: load_base(preset(family)))


POOLED = {
    "cls": lambda tokens, prefix: tokens[:, 0],
    "mean": lambda tokens, prefix: tokens[:, prefix:].mean(axis=1),
    "max": lambda tokens, prefix: tokens[:, prefix:].max(axis=1),
    "cls+mean": lambda tokens, prefix: np.hstack([tokens[:, 0], tokens[:, prefix:].mean(axis=1)]),
    "flatten": lambda tokens, prefix: tokens.reshape(len(tokens), -1),
    "none": lambda tokens, prefix: tokens,
}


def test_bottleneck__tokens_are_pooled_without_the_prefix(base_of):
    base = base_of("dinov2_with_registers")
    pixels = np.random.default_rng(2).integers(0, 256, (2, *SHAPE), np.uint8)
    tokens = bottleneck_model(cut(base, pool="none"))(pixels).numpy()
    assert tokens.shape == (2, 1 + 3 + 16, 16)
    for pool, expect in POOLED.items():
        found = bottleneck_model(cut(base, pool=pool))(pixels).numpy()
        np.testing.assert_allclose(found, expect(tokens, 4), rtol=1e-5, atol=1e-5, err_msg=pool)
    assert cut(base).pooling == "cls" and cut(base, "block_0").pooling == "none"


@pytest.mark.parametrize(("family", "end"), [("dinov2", "layernorm"), ("siglip", "post_layer_norm")])
def test_bottleneck__of_the_last_blocks(family, end, base_of):
    base = base_of(family)
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


def test_cut__without_class_token(base_of):
    base = base_of("vit_without_class")
    assert cut(base).pooling == "avg"
    with pytest.raises(OptionError, match=r"--pool cls takes a class token\. .*tokens without a class token"):
        cut(base, pool="cls")
    with pytest.raises(OptionError, match=r"is a map of shape \(4, 4, 16\)\. Use --pool avg"):
        cut(base, cut_points(base.model)[0].layer, pool="cls+mean")


def test_cut__of_a_base_that_pools_itself(base_of):
    base = base_of("siglip")
    pixels = np.random.default_rng(2).integers(0, 256, (2, *SHAPE), np.uint8)
    own = bottleneck_model(cut(base, pool="map"))(pixels)
    np.testing.assert_array_equal(own, bottleneck_model(cut(base))(pixels))
    assert (cut(base, pool="map").layer, cut(base, pool="map").pooling) == ("head", "none")
    tokens = bottleneck_model(cut(base, "post_layer_norm"))(pixels).numpy()
    for pool in ("mean", "max", "flatten", "none"):
        found = bottleneck_model(cut(base, pool=pool))(pixels).numpy()
        np.testing.assert_allclose(found, POOLED[pool](tokens, 0), rtol=1e-5, atol=1e-5, err_msg=pool)
    with pytest.raises(OptionError, match=r"has it after its last layer alone\. Leave --cut and --last out"):
        cut(base, "block_0", pool="map")
    with pytest.raises(OptionError, match="--pool cls takes a class token"):
        cut(base, pool="cls")
    with pytest.raises(OptionError, match=r"such as SigLIP's\. .* has none\. Use --pool avg"):
        cut(base_of("dinov2"), pool="map")


def test_load_base__other_sizes(preset):
    spec = preset("dinov2")
    base = load_base(BaseSpec(spec.name, size=(56, 56), normalize="torch"))
    assert base.model.output_shape == (None, 1 + 64, 16)
    with pytest.raises(OptionError, match="takes images of 28x28"):
        load_base(BaseSpec(preset("vit").name, size=(56, 56), normalize="torch"))
    with pytest.raises(OptionError, match="takes images of 28x28"):
        load_base(BaseSpec(spec.name, size=(28, 56), normalize="torch"))


def test_load_base__sizes_that_patches_do_not_divide(preset):
    spec = preset("dinov2")
    with pytest.raises(OptionError, match=r"patches of 7x7 pixels\. Received: .*such as 28x28 or 35x35"):
        load_base(BaseSpec(spec.name, size=(30, 30), normalize="torch"))
    with pytest.raises(OptionError, match=r"takes square images only\. Received: size=\(28, 112\)"):
        load_base(BaseSpec(preset("mit").name, size=(28, 112), normalize="torch"))


def test_bottlenecks__of_several_cuts_and_of_the_last_blocks(base_of):
    base = base_of("dinov2")
    pixels = np.random.default_rng(2).integers(0, 256, (2, *SHAPE), np.uint8)
    cuts = [cut(base, layer, pool="cls+mean") for layer in ("block_0", "block_1", None)]
    cuts.append(cut(base, "block_0", pool="mean"))
    each = [bottleneck_model(one)(pixels).numpy() for one in cuts]
    np.testing.assert_allclose(combined_trunk(cuts)(pixels), np.hstack(each), rtol=1e-4, atol=1e-5)
    assert tail_model(cut(base, last=2)) is None and tail_model(cut(base, "block_0", pool="none"))


def test_load_base__of_several_outputs_the_deepest(base_of):
    assert base_of("hgnetv2").model.output_shape == (None, 4, 4, 16)


def test_folder_of_hugging_face__says_size_and_normalization(tmp_path):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(
        '{"do_rescale": true, "rescale_factor": 0.5, "image_mean": [1, 2, 3], "image_std": [4, 5, 6],'
        ' "size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 192}}'
    )
    said = hub_folder(tmp_path)
    assert (said.size, said.normalize) == ((224, 192), "2.0,4.0,6.0,8.0,10.0,12.0")
    assert said.crop == Fraction(192, 256)
    file.write_text('{"do_rescale": true, "image_mean": [1, 2, 3]}')
    with pytest.raises(OptionError, match=r"preprocessor_config\.json is damaged: KeyError: 'image_std'"):
        hub_folder(tmp_path)


@pytest.mark.parametrize(
    ("said", "crop"),
    [
        ('"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}', Fraction(7, 8)),
        ('"size": {"shortest_edge": 224}, "crop_size": 224', Fraction(1)),
        ('"size": {"height": 256, "width": 256}, "crop_size": {"height": 224, "width": 224}', Fraction(7, 8)),
        ('"size": 256, "crop_size": 224', Fraction(7, 8)),
        ('"size": 256, "crop_size": 224, "do_center_crop": false', Fraction(1)),
        ('"size": {"height": 224, "width": 224}', Fraction(1)),
        ('"size": {"shortest_edge": 200}, "crop_size": 224', Fraction(1)),
    ],
)
def test_folder_of_hugging_face__says_what_its_crop_leaves(tmp_path, said, crop):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(f'{{"image_mean": [0], "image_std": [1], {said}}}')
    assert hub_folder(tmp_path).crop == crop

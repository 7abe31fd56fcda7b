"""Explanations of transformers, against gradients by differences."""

import numpy as np
import pytest
from families_support import FAMILIES, SHAPE, SIDE, make

from fastcls import explain, graph
from fastcls.backend import import_keras
from fastcls.bases.loader import Base
from fastcls.bases.opening.foreign import open_layers
from fastcls.cutter import bottleneck_model, cut
from fastcls.data.decoder import pixel_rule
from fastcls.errors import OptionError
from fastcls.inference.cams import grad_cam, spread_out
from fastcls.inference.classifier import Classifier
from fastcls.inference.stitcher import stitch
from fastcls.inference.watched import WatchedNetwork
from fastcls.specs import HeadSpec
from fastcls.training.heads.network import build_head

keras = import_keras()
CLASSES = ("a", "b", "c")
# The first normalization of the last of two blocks.
WATCHED = {
    "vit": "block_1_ln_1",
    "vit_without_class": "block_1_ln_1",
    "deit": "block_1_ln_1",
    "dinov2": "block_1_norm1",
    "dinov2_with_registers": "block_1_norm1",
    "dinov3": "block_1_norm1",
    "siglip": "block_1_layer_norm1",
    "clip": "block_1_layer_norm_1",
}


def classifier_of(family, pool=None):
    image = keras.Input(SHAPE, name="input")
    found = open_layers(make(family), image)
    model = keras.Model(image, found.output)
    graph.rename_apart(model.operations, taken=())
    trunk = bottleneck_model(cut(Base(family, model, SHAPE[:2], "torch", found.prefix_tokens), pool=pool))
    return Classifier(
        stitch(trunk, build_head(HeadSpec("linear"), trunk.output.shape[1:], 3)),
        *(CLASSES, pixel_rule(SHAPE[:2]), {}),
    )


def output_of(model, layer):
    return next(node.outputs[0] for node in graph.nodes(model) if node.operation.name == layer)


def gradient_by_differences(model, layer, image, label, step=1e-2):
    """Of the logit of a label with respect to what a layer gives for one image: (T, C)."""
    norm, probabilities = model.get_layer(layer), graph.nodes(model)[-1].operation
    tokens, channels = output_of(model, layer).shape[1:]
    moves = step * np.eye(tokens * channels, dtype=np.float32).reshape(-1, tokens, channels)
    moves = np.concatenate([moves, -moves])
    seen = {}

    def moved(*given, **options):
        return norm(*given, **options) + moves

    def end(features, **_):
        kernel, bias = probabilities.get_weights()
        seen["logits"] = np.asarray(features) @ kernel + bias
        return features

    images = np.repeat(image[None], len(moves), axis=0)
    graph.replay(model, images, instead=[(norm, moved), (probabilities, end)])
    up, down = np.split(seen["logits"][:, label], 2)
    return ((up - down) / (2 * step)).reshape(tokens, channels)


@pytest.mark.parametrize("family", WATCHED)
def test_explain__of_tokens_those_of_patches_in_their_places(family):
    classifier = classifier_of(family)
    model, layer, prefix = classifier.model, WATCHED[family], FAMILIES[family]
    image = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    network = WatchedNetwork(model)
    assert (network.layer, network.shape) == (layer, (4, 4, 16))
    gradient = gradient_by_differences(model, layer, image, 1)[prefix:].reshape(1, 4, 4, 16)
    found = network.forward(image[None])
    received = found.gradients(np.array([1]))
    np.testing.assert_allclose(received, gradient, atol=0.02 * np.abs(gradient).max())
    tokens = keras.Model(model.inputs, output_of(model, layer))(image[None]).numpy()
    maps = tokens[:, prefix:].reshape(1, 4, 4, 16)
    np.testing.assert_allclose(found.maps, maps, atol=1e-5)
    (explained,) = explain(classifier, image, {"class_name": "b"})
    expected = spread_out(grad_cam(maps, received)[0], (SIDE, SIDE))
    np.testing.assert_allclose(explained.maps[0], expected, atol=1e-4)


def test_explain__of_other_layers_of_tokens():
    model = classifier_of("dinov2").model
    assert WatchedNetwork(model, "block_0").shape == (4, 4, 16)
    assert WatchedNetwork(model, "embeddings_patches").shape == (4, 4, 16)
    image = np.zeros((1, *SHAPE), np.uint8)
    # Under a class token, the patches that the last block makes count nothing.
    assert not WatchedNetwork(model, "block_1").forward(image).gradients(np.array([0])).any()
    with pytest.raises(OptionError, match=r"no layer 'blok_0'\. The closest that give a map are block_0"):
        WatchedNetwork(model, "blok_0")
    with pytest.raises(OptionError, match=r"'pool' gives an array of shape \(16,\)"):
        WatchedNetwork(model, "pool")

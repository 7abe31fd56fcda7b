"""One table over the Inception, ShuffleNet and DenseNet families, at a small size that is no square.

The implementations in torch are those that the modules name: timm, facenet-pytorch, torchvision.
"""

import functools
from dataclasses import dataclass

import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import Base
from fastcls.bases.zoo import densenet, inception_resnet_v1, inception_v4, shufflenet_v2
from fastcls.cutter import cut, cut_points, default_cut_point

SIZE = (107, 91)


@dataclass(frozen=True)
class Row:
    """What is known of a network: `parameters` as published, with the classifier and trainable ones only."""

    build: object
    classes: int
    parameters: int
    count: int  # of the network without classifier, as Keras counts
    features: int
    output: str
    points: int
    middle: str


ROWS = {
    "InceptionV4": Row(
        inception_v4.InceptionV4, 1000, 42_679_816, 41_205_984, 1536, "avg_pool", 29, "mixed_5e"
    ),
    "InceptionResNetV1": Row(
        inception_resnet_v1.InceptionResNetV1, 8631, 27_910_327, 23_512_224, 512, "last_bn", 66, "block17_10"
    ),
    "ShuffleNetV2_x0_5": Row(
        shufflenet_v2.ShuffleNetV2_x0_5, 1000, 1_366_792, 349_744, 1024, "avg_pool", 74, "stage3_block8_out"
    ),
    "ShuffleNetV2_x1_0": Row(
        shufflenet_v2.ShuffleNetV2_x1_0, 1000, 2_278_604, 1_269_784, 1024, "avg_pool", 74, "stage2_block4_out"
    ),
    "ShuffleNetV2_x1_5": Row(
        shufflenet_v2.ShuffleNetV2_x1_5, 1000, 3_503_624, 2_502_064, 1024, "avg_pool", 74, "stage3_block1_out"
    ),
    "ShuffleNetV2_x2_0": Row(
        shufflenet_v2.ShuffleNetV2_x2_0, 1000, 7_393_996, 5_378_712, 2048, "avg_pool", 74, "maxpool"
    ),
    "DenseNet264": Row(
        densenet.DenseNet264, 1000, 33_337_704, 31_047_232, 2688, "avg_pool", 151, "conv4_block64_concat"
    ),
}
# `quarters` of the features that the torch implementations compute of `images`, with the weights of `fill`.
PUBLISHED = {
    "InceptionV4": (1.163991, 1.178179, 0.6405011, 1.374828, 1.190741, 1.193151, 0.6516639, 1.393039),
    "InceptionResNetV1": (
        -1.329073,
        -0.01948685,
        0.7195366,
        -0.9703358,
        -1.635915,
        0.1373067,
        0.6170148,
        -0.8210857,
    ),
    "ShuffleNetV2_x0_5": (142.9756, 167.7265, 157.0738, 179.7239, 136.9571, 158.6933, 153.9939, 175.235),
    "ShuffleNetV2_x1_0": (294.5731, 268.5831, 268.5146, 262.1752, 321.879, 292.2781, 294.7525, 286.6108),
    "ShuffleNetV2_x1_5": (645.0567, 753.7112, 754.7418, 666.8011, 623.5349, 737.8197, 733.216, 653.913),
    "ShuffleNetV2_x2_0": (347.8099, 346.678, 381.7777, 310.1042, 359.5728, 355.5677, 396.6325, 321.4012),
    "DenseNet264": (3.721007, 3.570518, 3.545176, 3.039014, 3.759879, 3.588088, 3.561633, 3.062286),
}
SOURCES = {
    "InceptionV4": inception_v4.SOURCES["timm"],
    "InceptionResNetV1": inception_resnet_v1.SOURCES["facenet"],
    "ShuffleNetV2_x0_5": shufflenet_v2.SOURCES["torchvision"],
    "DenseNet264": densenet.SOURCES["torchvision"],
}


def fill(model):
    """Give a model weights that are the same with every numpy: RandomState never changes."""
    random = np.random.RandomState(0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            size = layer.gamma.shape[0]
            gamma, variance = random.uniform(0.5, 1.5, (2, size))
            beta, mean = random.uniform(-0.5, 0.5, (2, size))
            layer.set_weights([gamma, beta, mean, variance])
        elif layer.weights:
            kernel, *biases = layer.weights
            fan_in = np.prod(kernel.shape) / layer.output.shape[-1]
            values = random.uniform(-1, 1, kernel.shape) * (6 / fan_in) ** 0.5
            layer.set_weights([values, *(random.uniform(-0.1, 0.1, bias.shape) for bias in biases)])


def images(size=SIZE):
    return np.random.RandomState(1).uniform(-2, 2, (2, *size, 3)).astype("float32")


def quarters(features):
    """Means of each quarter of the features: four numbers for each of two images."""
    return features.reshape(8, -1).mean(axis=1, dtype="float64")


@functools.cache
def filled(name):
    import_keras()
    model = ROWS[name].build(include_top=False, pooling="avg", input_shape=(*SIZE, 3))
    fill(model)
    return model


@functools.cache
def features(name):
    return filled(name)(images(), training=False).numpy()


@pytest.fixture(scope="module", autouse=True)
def _free_memory():
    yield
    filled.cache_clear()
    import_keras().backend.clear_session()


@pytest.mark.parametrize("name", ROWS)
def test_network__computes_what_the_published_one_does(name):
    row, received = ROWS[name], features(name)
    assert received.shape == (2, row.features)
    np.testing.assert_allclose(quarters(received), PUBLISHED[name], rtol=1e-4, atol=1e-5 * received.std())


@pytest.mark.parametrize("name", ROWS)
def test_network__parameters_and_cuts(name):
    row, model = ROWS[name], filled(name)
    points = cut_points(model)
    names = [point.layer for point in points]
    assert model.count_params() == row.count
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable + row.classes * (row.features + 1) == row.parameters
    assert default_cut_point(model, points).layer == names[-1] == row.output
    assert len(names) == len(set(names)) == row.points
    assert all(graph.is_built_in(operation) for operation in model.operations)
    halves = cut(Base(name, model, SIZE, "none"), row.middle)
    bottleneck = halves.trunk(images(), training=False)
    np.testing.assert_array_equal(halves.tail(bottleneck, training=False).numpy(), features(name))


@pytest.fixture
def shallow(monkeypatch):
    """Networks with one block of each kind, which are built and saved in a moment."""
    for module in (inception_v4, inception_resnet_v1):
        kinds = {id(block): name for name, block in module._BLOCKS.items()}
        monkeypatch.setattr(module, "_BLOCKS", {name: module._BLOCKS[name] for name in kinds.values()})
    for module in (shufflenet_v2, densenet):
        monkeypatch.setattr(module, "_DEPTHS", dict.fromkeys(module._DEPTHS, 2))


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", SOURCES)
def test_network__loads_in_plain_keras(name, tmp_path):
    keras = import_keras()
    model = ROWS[name].build(include_top=False, input_shape=(75, 83, 3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    expected = model(images((75, 83)), training=False).numpy()
    assert expected.std() > 0 and expected.ndim == 4
    np.testing.assert_array_equal(loaded(images((75, 83)), training=False).numpy(), expected)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("name", SOURCES)
def test_network__with_classifier(name):
    row, size = ROWS[name], (75, 83)
    model = row.build(input_shape=(*size, 3), classes=7)
    point = default_cut_point(model, cut_points(model))
    assert point.layer == row.output
    assert [tuple(weight.shape) for weight in model.layers[-1].weights] == [(*point.shape, 7), (7,)]
    np.testing.assert_allclose(model(images(size), training=False).numpy().sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", SOURCES)
def test_sources__give_each_layer_a_module_of_its_own(name):
    layers = [layer.name for layer in filled(name).layers if layer.weights]
    assert len({SOURCES[name](layer) for layer in layers}) == len(layers)


@pytest.mark.parametrize(
    ("name", "layer", "module"),
    [
        ("InceptionV4", "conv2d_2b_bn", "features.2.bn"),
        ("InceptionV4", "mixed_3a_branch1_conv", "features.3.conv.conv"),
        ("InceptionV4", "mixed_6a_branch1_2_bn", "features.10.branch1.2.bn"),
        ("InceptionV4", "mixed_7d_branch2_3b_conv", "features.21.branch2_3b.conv"),
        ("InceptionV4", "mixed_7d_branch3_1_conv", "features.21.branch3.1.conv"),
        ("InceptionV4", "predictions", "last_linear"),
        ("InceptionResNetV1", "conv2d_4b_conv", "conv2d_4b.conv"),
        ("InceptionResNetV1", "block17_10_branch1_2_bn", "repeat_2.9.branch1.2.bn"),
        ("InceptionResNetV1", "block8_5_up", "repeat_3.4.conv2d"),
        ("InceptionResNetV1", "block8_6_branch0_conv", "block8.branch0.conv"),
        ("InceptionResNetV1", "mixed_7a_branch2_1_conv", "mixed_7a.branch2.1.conv"),
        ("InceptionResNetV1", "logits", "logits"),
        ("ShuffleNetV2_x0_5", "conv5_bn", "conv5.1"),
        ("ShuffleNetV2_x0_5", "stage3_block8_branch2_dw_bn", "stage3.7.branch2.4"),
        ("ShuffleNetV2_x0_5", "predictions", "fc"),
        ("DenseNet264", "conv4_block64_1_conv", "features.denseblock3.denselayer64.conv1"),
        ("DenseNet264", "conv4_block64_1_bn", "features.denseblock3.denselayer64.norm2"),
        ("DenseNet264", "pool2_conv", "features.transition1.conv"),
        ("DenseNet264", "bn", "features.norm5"),
        ("DenseNet264", "predictions", "classifier"),
    ],
)
def test_sources__name_the_modules_of_torch(name, layer, module):
    assert SOURCES[name](layer) == module


@pytest.mark.usefixtures("shallow")
def test_inception_resnet_v1__without_embedding():
    largest = ROWS["InceptionResNetV1"].build(include_top=False, pooling="max", input_shape=(75, 75, 3))
    assert (largest.layers[-1].name, largest.output_shape) == ("max_pool", (None, 1792))


@pytest.mark.usefixtures("shallow")
def test_network__refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"one size\. Received: .*None"):
        shufflenet_v2.ShuffleNetV2_x0_5(input_shape=(None, None, 3))
    with pytest.raises(ValueError, match=r"'avg', 'max' or None\. Received: 'mean'"):
        shufflenet_v2.ShuffleNetV2_x0_5(include_top=False, input_shape=(32, 32, 3), pooling="mean")

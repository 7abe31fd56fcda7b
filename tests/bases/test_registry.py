"""One table over every base that has a name, built with random weights at a small size."""

import numpy as np
import pytest

from fastcls.bases.loader import load_base
from fastcls.bases.registry import ARCHITECTURES, build, find_architecture
from fastcls.bases.torch_weights import rename_layers, sources_of
from fastcls.cutter import cut, cut_points, default_cut_point
from fastcls.errors import OptionError
from fastcls.graph import is_built_in, operation_of
from fastcls.specs import BaseSpec

SIDE = 75  # the least that every family takes; parameters and layer names do not depend on it
# One base of each family is cut; its larger sisters are of the same blocks.
SMALLEST = {
    *("convnexttiny", "densenet121", "efficientnetb0", "efficientnetv2b0", "inceptionresnetv2"),
    *("inceptionv3", "mobilenet", "mobilenetv2", "mobilenetv3small", "nasnetmobile"),
    *("resnet50", "resnet50v2", "vgg16", "xception"),
    *("lenet5", "resnet18", "resnext50_32x4d", "seresnet50", "squeezenet1_1", "shufflenetv2_x0_5"),
}
KERAS_NAMES = [name for name, row in ARCHITECTURES.items() if row.is_keras]
ZOO_NAMES = [name for name, row in ARCHITECTURES.items() if not row.is_keras]
# Of the whole network, as torchvision and timm state them, without statistics of batch normalization. LeNet-5
# has 61,706 for gray images where C3 sees all maps of S2, and 300 more in C1 for RGB.
PUBLISHED_PARAMETERS = {
    "densenet264": 33_337_704,
    "inceptionresnetv1": 27_910_327,
    "inceptionv4": 42_679_816,
    "shufflenetv2_x0_5": 1_366_792,
    "shufflenetv2_x1_0": 2_278_604,
    "shufflenetv2_x1_5": 3_503_624,
    "shufflenetv2_x2_0": 7_393_996,
    "lenet5": 62_006,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x4d": 44_177_704,
    "resnext101_32x8d": 88_791_336,
    "seresnet50": 28_088_024,
    "seresnet101": 49_326_872,
    "seresnet152": 66_821_848,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
}


@pytest.fixture
def free_memory():
    import keras

    yield
    keras.backend.clear_session()


@pytest.fixture
def shapes_alone():
    """Weights have shapes and no values: a network is built in a fifth of the time."""
    import keras

    with keras.StatelessScope(initialize_variables=False):
        yield


@pytest.mark.usefixtures("free_memory", "shapes_alone")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture__is_as_the_table_says(name):
    row = ARCHITECTURES[name]
    base = load_base(BaseSpec(name, weights="random", size=(SIDE, SIDE)))
    points = cut_points(base.model)
    names = [point.layer for point in points]
    assert base.model.count_params() == row.parameters
    assert (default_cut_point(base.model, points).layer, base.model.output_shape[1:]) == (
        row.output,
        (row.features,),
    )
    assert len(set(names)) == len(names) >= 4
    assert (points[-1].share, points[-1].parameters) == (1, row.parameters)
    assert [p.share for p in points] == sorted(p.share for p in points)
    if name in PUBLISHED_PARAMETERS and name not in SMALLEST:
        classifier = (row.features + 1) * (8631 if name == "inceptionresnetv1" else 1000)
        assert _trainable(base.model) + classifier == PUBLISHED_PARAMETERS[name]


@pytest.mark.usefixtures("free_memory")
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name in SMALLEST])
def test_architecture__both_sides_of_a_cut_make_the_whole(name):
    base = load_base(BaseSpec(name, weights="random", size=(SIDE, SIDE)))
    points = cut_points(base.model)
    names = [point.layer for point in points]
    image = np.random.default_rng(0).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype("float32")
    expected = base.model(image, training=False).numpy()
    assert np.isfinite(expected).all() and expected.std() > 0
    # The same operations on the same CPU kernels: splitting the graph must not change one bit.
    for layer in sorted({names[len(names) // 2], *_first_operation(points)}):
        halves = cut(base, layer)
        bottleneck = halves.trunk(image, training=False)
        np.testing.assert_array_equal(halves.tail(bottleneck, training=False).numpy(), expected)


def _first_operation(points):
    """The first cut point that is no layer, such as an addition of ConvNeXt; none in most bases."""
    import keras

    return [p.layer for p in points if not isinstance(operation_of(p.tensor), keras.Layer)][:1]


@pytest.mark.parametrize("name", ["convnexttiny", "inceptionv3", "squeezenet1_1"])
def test_architecture__same_names_and_weights_each_time(name):
    first, second = (load_base(BaseSpec(name, weights="random", size=(SIDE, SIDE))).model for _ in range(2))
    assert [o.name for o in first.operations] == [o.name for o in second.operations]
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", [name for name in KERAS_NAMES if not name.startswith("mobilenetv3")])
def test_architecture__side_is_what_the_full_model_takes(name, monkeypatch):
    """Seen in what Keras itself asks for, without building the model; MobileNetV3 takes any size."""
    from keras import applications
    from keras.src.applications import imagenet_utils

    asked = {}

    def stop(*_, **options):
        asked.update(options)
        raise InterruptedError

    monkeypatch.setattr(imagenet_utils, "obtain_input_shape", stop)
    with pytest.raises(InterruptedError):
        getattr(applications, ARCHITECTURES[name].name)(weights=None)
    assert asked["default_size"] == ARCHITECTURES[name].side


@pytest.mark.parametrize("name", ["MobileNetV2", "mobilenet_v2", "mobilenet-v2", "MOBILENETV2"])
def test_find_architecture__whatever_case_and_punctuation(name):
    assert find_architecture(name).name == "MobileNetV2"
    assert find_architecture(name + "x") is None


def test_table_lists_all_of_keras():
    from keras import applications

    functions = {n for n in dir(applications) if n[0].isupper()}
    assert functions == {ARCHITECTURES[name].name for name in KERAS_NAMES}


def _trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.usefixtures("free_memory", "shapes_alone")
@pytest.mark.parametrize("name", [name for name in ZOO_NAMES if name in SMALLEST])
def test_zoo__whole_network(name):
    """Published parameters, layers of plain Keras, and a PyTorch module for each layer that has weights."""
    row = ARCHITECTURES[name]
    model = build(row, (row.side, row.side), None, include_top=True)
    assert _trainable(model) == PUBLISHED_PARAMETERS[name]
    assert all(is_built_in(operation) for operation in model.operations)
    point = default_cut_point(model, cut_points(model))
    assert point.layer != model.operations[-1].name
    for source in sources_of(row):
        modules = [rename_layers(row, source)(layer.name) for layer in model.layers if layer.weights]
        assert len(set(modules)) == len(modules)


@pytest.mark.parametrize("name", ["lenet5", "seresnet50", "shufflenetv2_x0_5", "squeezenet1_1"])
def test_zoo__is_saved_and_loaded_by_plain_keras(name, tmp_path):
    import keras

    model = build(ARCHITECTURES[name], (64, 48), None, include_top=True, classes=7)
    model.save(tmp_path / "m.keras")
    image = np.random.default_rng(0).normal(size=(1, 64, 48, 3)).astype("float32")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert loaded.output_shape == (None, 7)
    np.testing.assert_array_equal(loaded(image).numpy(), model(image).numpy())


@pytest.mark.usefixtures("shapes_alone")
@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "seresnet50"])
def test_zoo__resnet_stages_have_names(name):
    model = build(ARCHITECTURES[name], (64, 64), None, include_top=False)
    shapes = {point.layer: point.shape[:2] for point in cut_points(model)}
    assert [shapes[f"layer{stage}_out"] for stage in (1, 2, 3, 4)] == [(16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("name", ZOO_NAMES)
def test_zoo__needs_weights_or_the_word_random(name):
    message = rf"no weights of {name} to download\. .*--weights random"
    with pytest.raises(OptionError, match=message) as caught:
        load_base(name)
    published = ARCHITECTURES[name].published
    assert ("import-weights" in str(caught.value)) == bool(published)
    assert all(source in str(caught.value) for source in published)


@pytest.mark.parametrize(
    ("used", "meant"),
    [
        *(("inceptionresnetv2", "InceptionResNetV2"), ("inception_resnetv2", "InceptionResNetV2")),
        *(("nasnet_small", "NASNetMobile"), ("nasnet_large", "NASNetLarge"), ("resnet50v2", "ResNet50V2")),
        *(("mobilenet_v1", "MobileNet"), ("MobileNetV3_small", "MobileNetV3Small")),
        *(("squeezenet", "SqueezeNet1_1"), ("squeezenet1.0", "SqueezeNet1_0"), ("lenet-5", "LeNet5")),
        *(
            ("se_resnet_50", "SEResNet50"),
            ("resnext50", "ResNeXt50_32x4d"),
            ("resnext101", "ResNeXt101_32x4d"),
        ),
        *(("densenet269", "DenseNet264"), ("ShuffleNetV2-0.5x", "ShuffleNetV2_x0_5")),
        *(("shufflenet_v2_2_0x", "ShuffleNetV2_x2_0"), ("inception_v4", "InceptionV4")),
        *(("Inception-ResNet-V1", "InceptionResNetV1"), ("resnext101", "ResNeXt101_32x4d")),
        *(("densenet_121", "DenseNet121"), ("vgg-16", "VGG16")),
    ],
)
def test_find_architecture__names_in_use(used, meant):
    assert find_architecture(used).name == meant

"""One table over every keras.applications base, built with random weights at a small size."""

import numpy as np
import pytest

from fastcls.bases.applications import APPLICATIONS, find_application
from fastcls.bases.loader import load_base
from fastcls.cutter import cut, cut_points, default_cut_point
from fastcls.graph import operation_of
from fastcls.specs import BaseSpec

SIDE = 75  # the least that every family takes; parameters and layer names do not depend on it
# One base of each family is cut in several places, its larger sisters in the middle only.
SMALLEST = {
    *("convnexttiny", "densenet121", "efficientnetb0", "efficientnetv2b0", "inceptionresnetv2"),
    *("inceptionv3", "mobilenet", "mobilenetv2", "mobilenetv3small", "nasnetmobile"),
    *("resnet50", "resnet50v2", "vgg16", "xception"),
}


@pytest.fixture
def free_memory():
    import keras

    yield
    keras.backend.clear_session()


@pytest.mark.usefixtures("free_memory")
@pytest.mark.parametrize("name", APPLICATIONS)
def test_application__table_and_cuts(name):
    row = APPLICATIONS[name]
    base = load_base(BaseSpec(name, weights="none", size=(SIDE, SIDE)))
    points = cut_points(base.model)
    names = [point.layer for point in points]
    assert base.model.count_params() == row.parameters
    assert (default_cut_point(base.model, points).layer, base.model.output_shape[1:]) == (
        row.output,
        (row.features,),
    )
    assert len(set(names)) == len(names) >= 4
    assert points[-1].share == 1
    assert [p.share for p in points] == sorted(p.share for p in points)

    image = np.random.default_rng(0).uniform(-1, 1, (1, SIDE, SIDE, 3)).astype("float32")
    expected = base.model(image, training=False).numpy()
    assert np.isfinite(expected).all() and expected.std() > 0
    # The same operations on the same CPU kernels: splitting the graph must not change one bit.
    middle = names[len(names) // 2]
    layers = {middle, names[0], names[-2], *_first_operation(points)} if name in SMALLEST else {middle}
    for layer in sorted(layers):
        halves = cut(base, layer)
        bottleneck = halves.trunk(image, training=False)
        np.testing.assert_array_equal(halves.tail(bottleneck, training=False).numpy(), expected)


def _first_operation(points):
    """The first cut point that is no layer, such as an addition of ConvNeXt; none in most bases."""
    import keras

    return [p.layer for p in points if not isinstance(operation_of(p.tensor), keras.Layer)][:1]


@pytest.mark.parametrize("name", ["convnexttiny", "inceptionv3", "mobilenet"])
def test_application__same_names_and_weights_each_time(name):
    first, second = (load_base(BaseSpec(name, weights="none", size=(SIDE, SIDE))).model for _ in range(2))
    assert [o.name for o in first.operations] == [o.name for o in second.operations]
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("name", [name for name in APPLICATIONS if not name.startswith("mobilenetv3")])
def test_application__side_is_what_the_full_model_takes(name, monkeypatch):
    """Seen in what Keras itself asks for, without building the model; MobileNetV3 takes any size."""
    from keras import applications
    from keras.src.applications import imagenet_utils

    asked = {}

    def stop(*_, **options):
        asked.update(options)
        raise InterruptedError

    monkeypatch.setattr(imagenet_utils, "obtain_input_shape", stop)
    with pytest.raises(InterruptedError):
        getattr(applications, APPLICATIONS[name].function)(weights=None)
    assert asked["default_size"] == APPLICATIONS[name].side


@pytest.mark.parametrize("name", ["MobileNetV2", "mobilenet_v2", "mobilenet-v2", "MOBILENETV2"])
def test_find_application__whatever_case_and_punctuation(name):
    assert find_application(name).function == "MobileNetV2"
    assert find_application(name + "x") is None


def test_table_lists_all_of_keras():
    from keras import applications

    functions = {n for n in dir(applications) if n[0].isupper()}
    assert functions == {row.function for row in APPLICATIONS.values()}

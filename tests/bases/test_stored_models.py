"""Files of others: no code in them runs, and no model of Keras 2 becomes another one."""

import json
import zipfile

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

keras = import_keras()
PIXELS = np.random.default_rng(0).uniform(0, 255, (3, 12, 16, 3)).astype("float32")


@pytest.fixture
def legacy():
    """Keras 2."""
    return pytest.importorskip("tf_keras")


@pytest.fixture
def marker(tmp_path):
    """What planted code would write."""
    return tmp_path / "code-has-run"


def image_model(library, make, *, before=False):
    """A model of Keras 2 or 3 with something inside, in front of its first layer or behind it."""
    image = library.Input((12, 16, 3))
    x = library.layers.Rescaling(1 / 255)(image)
    x = x if before else library.layers.Conv2D(4, 3, activation="tanh", name="first")(x)
    return library.Model(image, make(library.layers, x))


def save(model, path):
    model.save(path, **({} if path.suffix else {"save_format": "tf"}))


def load(path):
    return load_base(BaseSpec(str(path))).model


# Code


def planting(marker):
    path = str(marker)  # Keras 2 writes what a function closes over into the file

    def plant(x):
        with open(path, "w") as file:  # noqa: PTH123 (nothing else is known inside)
            file.write("Python of the file")
        return x

    return plant


LAMBDAS = {
    "plain": lambda layers, code: layers.Lambda(code, name="planted"),
    "wrapped": lambda layers, code: layers.TimeDistributed(layers.Lambda(code, name="planted")),
}


@pytest.mark.parametrize("where", [*LAMBDAS, "nested"])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_load__no_lambda_of_a_file_is_run(where, suffix, marker, tmp_path):
    def make(layers, x):
        if where != "nested":
            return LAMBDAS[where](layers, planting(marker))(x)
        inner = keras.Input(x.shape[1:])
        return keras.Sequential([inner, layers.Lambda(planting(marker), name="planted")])(x)

    path = tmp_path / f"m{suffix}"
    save(image_model(keras, make), path)
    _require_refused(path, "layer 'planted' is a Lambda, Python code inside the file", marker)


@pytest.mark.parametrize("where", [*LAMBDAS, "nested"])
@pytest.mark.parametrize("name", ["m.h5", "m.keras", "saved"])
def test_load__no_lambda_of_keras_2_is_run(where, name, marker, tmp_path, legacy):
    def make(layers, x):
        if where != "nested":
            return LAMBDAS[where](layers, planting(marker))(x)
        return legacy.Sequential([layers.Lambda(planting(marker), name="planted")])(x)

    save(image_model(legacy, make), tmp_path / name)
    _require_refused(tmp_path / name, "layer 'planted' is a Lambda, Python code inside the file", marker)


def _require_refused(path, message, marker):
    marker.unlink(missing_ok=True)
    with pytest.raises(OptionError, match=f"cannot be loaded as a Keras model: .*{message}"):
        load(path)
    assert not marker.exists()


def test_load__what_a_saved_model_does_when_it_is_loaded_is_not_done(marker, tmp_path, legacy):
    """TensorFlow initializes tables while it loads: by any graph that the file has for it."""
    import tensorflow as tf

    class Planted(tf.lookup.KeyValueTensorInitializer):
        def initialize(self, table):
            tf.io.write_file(str(marker), "a graph of the file")
            return super().initialize(table)

    model = image_model(legacy, lambda layers, x: layers.ReLU()(x))
    model.table = tf.lookup.StaticHashTable(Planted(["a"], [1]), 0)
    save(model, tmp_path / "saved")
    marker.unlink(missing_ok=True)
    legacy.models.load_model(tmp_path / "saved", compile=False)
    assert marker.exists()  # else this test shows nothing
    _require_refused(tmp_path / "saved", r"its graphs hold WriteFile: ", marker)


@pytest.mark.parametrize(
    "operation", ["PyFunc", "EagerPyFunc", "ReadFile", "MatchingFiles", "PrintV2", "RestoreV2", "RemoteCall"]
)
@pytest.mark.parametrize("place", ["", "__inference_call_1", "__inference__traced_save_1"])
def test_load__graphs_that_reach_out_are_refused_by_name(operation, place, marker, tmp_path, legacy):
    if operation == "RestoreV2" and "save" in place:
        pytest.skip("that is what such a function is for")
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    save(image_model(legacy, lambda layers, x: layers.ReLU()(x)), tmp_path / "saved")
    file = tmp_path / "saved" / "saved_model.pb"
    stored = SavedModel.FromString(file.read_bytes())
    graph_def = stored.meta_graphs[0].graph_def
    if not place:
        graph_def.node.add(name="planted", op=operation)
    else:
        function = graph_def.library.function.add()
        function.signature.name = place
        function.node_def.add(name="planted", op=operation)
    file.write_bytes(stored.SerializeToString())
    _require_refused(tmp_path / "saved", f"its graphs hold {operation}: ", marker)


def _edit(path, change):
    """Change the configuration in a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"module": "os", "class_name": "system", "config": {}}, "system"),
        ({"module": "mine", "class_name": "Own", "config": {}, "registered_name": "mine>Own"}, "Own"),
        ({"module": "keras.utils", "class_name": "get_file", "config": {}}, "get_file"),
        ({"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}}, "TFSMLayer"),
        ({"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {}}, "TorchModuleWrapper"),
        ({"module": "keras.layers", "class_name": "StringLookup", "config": {}}, "StringLookup"),
        ({"module": "builtins", "class_name": "function", "config": "swished"}, "swished"),
        ({"module": "builtins", "class_name": "__lambda__", "config": {"value": "4w=="}}, "Lambda"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("place", ["layer", "activation", "initializer"])
def test_load__only_what_is_of_keras_passes(record, named, place, tmp_path, marker):
    path = tmp_path / "m.keras"
    save(image_model(keras, lambda layers, x: layers.TimeDistributed(layers.Dense(3))(x)), path)

    def change(config):
        wrapper = config["config"]["layers"][-1]["config"]
        if place == "layer":
            wrapper["layer"] = record
        elif place == "activation":
            wrapper["layer"]["config"]["activation"] = record
        else:
            wrapper["layer"]["config"]["kernel_initializer"] = record

    _edit(path, change)
    _require_refused(path, f".*{named}.*", marker)


def test_load__a_registered_class_of_the_process_is_not_found_either(tmp_path, marker):
    @keras.saving.register_keras_serializable("mine")
    class Planted(keras.layers.Layer):
        def call(self, x):
            marker.write_text("registered")
            return x

        def compute_output_shape(self, shape):
            return shape

    path = tmp_path / "m.keras"
    save(image_model(keras, lambda layers, x: layers.TimeDistributed(Planted(name="planted"))(x)), path)
    _require_refused(path, "layer 'planted' is a Planted, which is not one of Keras's own layers", marker)


def test_load__a_configuration_that_fills_the_memory_is_refused(tmp_path, marker):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("config.json", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(b" " * (1 << 20))
        archive.writestr("metadata.json", "{}")
    _require_refused(path, "config.json is too large", marker)


# Keras 2


def hard_sigmoid(kind):
    return {
        "string": lambda layers, x: layers.Dense(4, activation="hard_sigmoid", name="hard")(x),
        "layer": lambda layers, x: layers.Activation("hard_sigmoid", name="hard")(x),
        "wrapped": lambda layers, x: layers.TimeDistributed(
            layers.Dense(4, activation="hard_sigmoid", name="hard")
        )(x),
        "recurrent": lambda layers, x: layers.LSTM(3, recurrent_activation="hard_sigmoid", name="hard")(
            layers.Reshape((10, 56))(x)
        ),
    }[kind]


KINDS = ["string", "layer", "wrapped", "recurrent"]


@pytest.mark.parametrize("kind", [*KINDS, "nested"])
@pytest.mark.parametrize("name", ["m.h5", "m.keras", "saved"])
def test_load__hard_sigmoid_of_keras_2_is_another_function(kind, name, tmp_path, legacy, marker):
    def make(layers, x):
        inner = legacy.Sequential([layers.Dense(4, activation="hard_sigmoid", name="hard")])
        return inner(x) if kind == "nested" else hard_sigmoid(kind)(layers, x)

    model = image_model(legacy, make)
    save(model, tmp_path / name)
    if kind == "recurrent":
        message = r"layer 'hard' \(LSTM\) has the recurrent_activation 'hard_sigmoid', which Keras 3 lacks"
        _require_refused(tmp_path / name, message, marker)
    else:
        np.testing.assert_allclose(load(tmp_path / name)(PIXELS), model(PIXELS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_load__hard_sigmoid_of_keras_3_stays_what_it_is(kind, suffix, tmp_path):
    model = image_model(keras, hard_sigmoid(kind))
    save(model, tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(load(tmp_path / f"m{suffix}")(PIXELS), model(PIXELS))


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "saved"])
def test_load__training_in_a_call_is_refused(name, tmp_path, legacy, marker):
    def make(layers, x):
        return layers.BatchNormalization(name="drawn")(x, training=True)

    save(image_model(legacy, make), tmp_path / name)
    _require_refused(tmp_path / name, "layer 'drawn' is called with training=True", marker)


ACTIVATIONS = (
    *("relu", "relu6", "elu", "selu", "softplus", "softsign", "tanh", "sigmoid", "exponential", "linear"),
    *("swish", "silu", "gelu", "mish", "softmax", "leaky_relu"),
)
MADE = {name: lambda layers, x, name=name: layers.Activation(name)(x) for name in ACTIVATIONS} | {
    "LeakyReLU": lambda layers, x: layers.LeakyReLU(0.17)(x),
    "ReLU": lambda layers, x: layers.ReLU(0.8, negative_slope=0.1, threshold=0.2)(x),
    "PReLU": lambda layers, x: layers.PReLU(shared_axes=[1, 2])(x),
    "Softmax": lambda layers, x: layers.Softmax(axis=1)(x),
    "bilinear": lambda layers, x: layers.UpSampling2D((2, 3), interpolation="bilinear")(x),
    "bicubic": lambda layers, x: layers.Resizing(5, 9, interpolation="bicubic")(x),
    "crop": lambda layers, x: layers.Resizing(7, 9, crop_to_aspect_ratio=True)(x),
    "CenterCrop": lambda layers, x: layers.CenterCrop(20, 5)(x),
    "BatchNormalization": lambda layers, x: layers.BatchNormalization(axis=1)(x),
    "LayerNormalization": lambda layers, x: layers.LayerNormalization()(x),
    "Normalization": lambda layers, x: layers.Normalization(mean=[0.1] * 4, variance=[2.0] * 4)(x),
    "AveragePooling2D": lambda layers, x: layers.AveragePooling2D(3, 2, "same")(x),
    "UnitNormalization": lambda layers, x: layers.UnitNormalization(axis=(1, 2))(x),
    "ThresholdedReLU": lambda layers, x: layers.ThresholdedReLU(0.2)(x),
    "Dot": lambda layers, x: layers.Dot(-1, normalize=True)([layers.Flatten()(x)] * 2),
}


@pytest.mark.parametrize("name", MADE)
def test_load__what_is_read_from_keras_2_computes_the_same(name, tmp_path, legacy):
    if name in ACTIVATIONS and not hasattr(legacy.activations, name):
        pytest.skip("Keras 2 lacks it")
    legacy.utils.set_random_seed(0)
    model = image_model(legacy, MADE[name])
    for weight in model.weights:
        weight.assign(np.random.uniform(0.1, 0.6, weight.shape))
    save(model, tmp_path / "m.h5")
    np.testing.assert_allclose(load(tmp_path / "m.h5")(PIXELS), model(PIXELS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_load__a_saved_model_computes_the_same(kind, tmp_path, legacy):
    layers = legacy.layers
    legacy.utils.set_random_seed(0)
    normalize = layers.Normalization()
    normalize.adapt(PIXELS)
    chain = [normalize, layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization()]
    if kind == "functional":
        image = legacy.Input((12, 16, 3))
        x = chain[1](normalize(image))
        model = legacy.Model(image, layers.Add()([chain[2](x), x]))
    else:
        model = legacy.Sequential([legacy.Input((12, 16, 3)), *chain])
    for weight in model.weights[3:]:
        weight.assign(np.random.uniform(0.1, 0.6, weight.shape))
    save(model, tmp_path / "saved")
    np.testing.assert_allclose(load(tmp_path / "saved")(PIXELS), model(PIXELS), rtol=1e-5, atol=1e-5)


def test_load__a_saved_model_with_damaged_or_missing_weights(tmp_path, legacy, marker):
    save(image_model(legacy, lambda layers, x: layers.ReLU()(x)), tmp_path / "saved")
    (tmp_path / "saved" / "variables" / "variables.index").unlink()
    _require_refused(tmp_path / "saved", "", marker)
    (tmp_path / "saved" / "keras_metadata.pb").write_bytes(b"\x0a\xff")
    _require_refused(tmp_path / "saved", "keras_metadata.pb is damaged", marker)
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"\x0a\xff")
    _require_refused(tmp_path / "saved", "saved_model.pb is damaged", marker)

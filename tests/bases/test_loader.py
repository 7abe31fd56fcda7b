import sys
import zipfile

import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.cutter import bottleneck_model, cut, cut_points
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

keras = import_keras()
layers = keras.layers

USER_MODULE = """
import keras
from keras import layers

def plain():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(image)))

def raising():
    raise RuntimeError("no GPU today")

def number():
    return 3

class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = layers.Conv2D(4, 3, name="convolution")
        self.block = keras.Sequential([layers.ReLU(), layers.BatchNormalization(name="norm")])

    def call(self, image, training=None):
        return self.block(self.convolution(image / 255), training=training)

subclassed = Own

class Doubling(layers.Layer):
    def call(self, x):
        return x * 2

    def compute_output_shape(self, shape):
        return shape

class Doubled(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Conv2D(3, 1, activation=swished, name="inner")
        self.doubling = Doubling()

    def call(self, x, training=None):
        return x + self.doubling(self.inner(x))

class Shifting(layers.Layer):
    def build(self, shape):
        self.offset = self.add_weight(shape=(3,))

    def call(self, x):
        return x + self.offset

class OwnCode(keras.Model):
    def call(self, image):
        import tensorflow as tf
        return tf.cast(image, "float32")

def swished(x):
    return x * keras.ops.sigmoid(x)

def with_layer():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.ReLU()(Doubling(name="doubling")(image)))

def with_nested_layers():
    image = keras.Input((16, 16, 3))
    x = Doubled(name="block_1")(layers.Rescaling(1 / 255)(image))
    return keras.Model(image, Doubled(name="block_2")(x))

def with_own_weights():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, Shifting(name="shifting")(image))

def with_lambda():
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Lambda(lambda x: x * 2, name="times")(image))

def wrapped(layer):
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.TimeDistributed(layer, name="outer")(image))

def with_inner_layer():
    return wrapped(Doubling(name="doubling"))

def with_layer_in_an_inner_model():
    return wrapped(keras.Sequential([keras.Input((16, 3)), layers.TimeDistributed(Doubling())]))

def with_inner_activation():
    return wrapped(layers.Dense(3, activation=swished))

def relu(x):
    return x * 2

def with_activation_of_a_known_name():
    return wrapped(layers.Dense(3, activation=relu))

class Halved(keras.regularizers.Regularizer):
    def __call__(self, x):
        return 0.5 * keras.ops.sum(x)

def with_regularizer():
    return wrapped(layers.Dense(3, kernel_regularizer=Halved()))

own_code = OwnCode
NOT_CALLABLE = 3
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module in the working folder, which is not on Python's path yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    name = f"user_models_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(USER_MODULE)
    return name


def block(*, normalized=True, side=16):
    image = keras.Input((side, side, 3))
    x = layers.Rescaling(1 / 255)(image) if normalized else image
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    return keras.Model(image, layers.Add()([x, layers.Conv2D(4, 1, name="side")(x)]))


def sequential():
    return keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(1 / 255), layers.Conv2D(4, 3)])


def nested():
    """Two nested models whose layers have the same names, one of them called twice."""
    image = keras.Input((16, 16, 3), name="conv")
    x = block()(image)
    second = keras.Sequential([layers.Conv2D(4, 3, padding="same", name="conv"), layers.ReLU()])
    return keras.Model(image, layers.Conv2D(4, 3, name="last")(second(second(x, training=False))))


@pytest.mark.parametrize("make", [block, sequential, nested])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_load_base__file_of_any_functional_model(make, suffix, tmp_path):
    model = make()
    model.save(tmp_path / f"m{suffix}")
    base = load_base(str(tmp_path / f"m{suffix}"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert (base.size, base.normalize) == ((16, 16), "none")
    made = bottleneck_model(cut(base, cut_points(base.model)[-1].layer, pool="none"))
    assert not any(graph.is_functional(operation) for operation in made.operations)
    np.testing.assert_array_equal(made(pixels).numpy(), model(pixels.astype("float32")).numpy())


def test_load_base__function_in_the_working_folder(user_module):
    first, second = (load_base(f"{user_module}:plain").model for _ in range(2))
    assert [o.name for o in first.operations] == [o.name for o in second.operations]
    assert graph.weights_digest(first) == graph.weights_digest(second)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}:missing", r"AttributeError.*Expected module:function"),
        ("{}_x:plain", r"ModuleNotFoundError.*Expected module:function"),
        ("{}:raising", r"failed: RuntimeError: no GPU today"),
        ("{}:number", r"must return a keras.Model. Received: int"),
        ("{}:NOT_CALLABLE", r"failed: TypeError"),
    ],
)
def test_load_base__explains_what_is_wrong_with_a_function(name, message, user_module):
    with pytest.raises(OptionError, match=message):
        load_base(name.format(user_module))


def test_load_base__subclassed_model_is_opened(user_module, tmp_path):
    name = f"{user_module}:subclassed"
    with pytest.raises(OptionError, match=r"any image size\. Choose one with --size"):
        load_base(name)
    base = load_base(BaseSpec(name, size=(16, 16)))
    assert [o.name for o in base.model.operations][2:] == ["convolution", "re_lu", "norm"]
    assert (base.normalize, cut(base, "convolution").trunk.output_shape) == ("none", (None, 14, 14, 4))
    model = sys.modules[user_module].Own()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    expected = model(pixels).numpy()
    model.save_weights(tmp_path / "own.weights.h5")
    loaded = load_base(BaseSpec(name, size=(16, 16), weights=str(tmp_path / "own.weights.h5"))).model
    np.testing.assert_array_equal(loaded(pixels).numpy(), expected)


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        *(("with_own_weights", r"shifting \(Shifting\)"), ("with_lambda", "times")),
        *(("with_inner_layer", "outer"), ("with_layer_in_an_inner_model", "outer")),
        *(("with_inner_activation", "outer"), ("with_activation_of_a_known_name", "outer")),
        ("with_regularizer", "outer"),
    ],
)
def test_load_base__refuses_what_plain_keras_cannot_load(function, layer, user_module):
    message = f"has layers or functions of its own that cannot be said in layers of Keras: {layer}. Build"
    with pytest.raises(OptionError, match=message):
        load_base(BaseSpec(f"{user_module}:{function}", normalize="none"))


def test_load_base__layers_without_own_weights_are_opened(user_module, tmp_path):
    name = f"{user_module}:with_nested_layers"
    base = load_base(name)
    assert {"block_1", "block_1_inner", "block_2"} <= {operation.name for operation in base.model.operations}
    assert "block_1" in [point.layer for point in cut_points(base.model)]
    model = sys.modules[user_module].with_nested_layers()
    model.save_weights(tmp_path / "own.weights.h5")
    loaded = load_base(BaseSpec(name, weights=str(tmp_path / "own.weights.h5"))).model
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(loaded(pixels), model(pixels), rtol=1e-6)
    loaded.save(tmp_path / "opened.keras")
    plain = keras.saving.load_model(tmp_path / "opened.keras")  # without the user's module
    np.testing.assert_array_equal(plain(pixels), loaded(pixels))


def test_load_base__subclassed_model_of_other_code_is_refused(user_module):
    with pytest.raises(OptionError, match=r"subclassed model whose code does not run .*keras.ops"):
        load_base(BaseSpec(f"{user_module}:own_code", size=(16, 16), normalize="none"))


def test_load_base__model_of_unknown_size(tmp_path):
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, padding="same")(layers.Rescaling(1 / 255)(image))
    keras.Model(image, layers.Conv2D(4, 9)(x)).save(tmp_path / "m.keras")
    name = str(tmp_path / "m.keras")
    with pytest.raises(OptionError, match=r"any image size\. Choose one with --size"):
        load_base(name)
    with pytest.raises(OptionError, match="cannot take images of 8x8 pixels"):
        load_base(BaseSpec(name, size=(8, 8)))
    base = load_base(BaseSpec(name, size=(20, 24)))
    assert (base.size, base.model.output_shape) == ((20, 24), (None, 12, 16, 4))


def test_load_base__size_must_fit(tmp_path):
    block().save(tmp_path / "m.keras")
    with pytest.raises(OptionError, match=r"takes images of 16x16. Received: size=\(32, 32\)"):
        load_base(BaseSpec(str(tmp_path / "m.keras"), size=(32, 32)))


@pytest.mark.parametrize("shapes", [[(8, 8, 3), (8, 8, 3)], [(8, 8, 2)], [(8, 8)]], ids=str)
def test_load_base__takes_one_image_of_three_channels_or_one(shapes, tmp_path):
    inputs = [keras.Input(shape) for shape in shapes]
    keras.Model(inputs, layers.Add()([i * 2.0 for i in inputs] * 2)).save(tmp_path / "m.keras")
    with pytest.raises(OptionError, match=r"one input of RGB images .*takes: \(None, 8, 8"):
        load_base(str(tmp_path / "m.keras"))


def test_load_base__gray_model_sees_gray_photos_as_they_are(tmp_path):
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, layers.Flatten()(layers.Conv2D(2, 3)(layers.Rescaling(1 / 255)(image))))
    model.save(tmp_path / "m.keras")
    base = load_base(str(tmp_path / "m.keras"))
    assert base.normalize == "none" and base.model.input_shape == (None, 8, 8, 3)
    gray = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(base.model(np.repeat(gray, 3, axis=-1)), model(gray), atol=1e-5)


@pytest.mark.parametrize("weights", ["imagenet", "random"])
def test_load_base__a_file_has_its_own_weights(weights, tmp_path):
    block().save(tmp_path / "m.keras")
    with pytest.raises(OptionError, match=f"lists have weights '{weights}'"):
        load_base(BaseSpec(str(tmp_path / "m.keras"), weights=weights))


def test_load_base__weights_of_a_nested_model_from_a_file(tmp_path):
    model = nested()
    model.save(tmp_path / "m.keras")
    for weight in model.weights:
        weight.assign(weight + 1)
    model.save_weights(tmp_path / "m.weights.h5")
    base = load_base(BaseSpec(str(tmp_path / "m.keras"), weights=str(tmp_path / "m.weights.h5")))
    for ours, theirs in zip(base.model.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_load_base__unknown_name_comes_with_the_closest():
    with pytest.raises(OptionError, match=r"Unknown base: 'resnet5'. The closest names are resnet50, "):
        load_base("resnet5")


def _truncated(path):
    block().save(path)
    path.write_bytes(path.read_bytes()[:2000])


def _flipped(path):
    """A whole archive with one byte of its weights changed."""
    block().save(path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("model.weights.h5").header_offset
    data[place + 3000] ^= 255
    path.write_bytes(data)


def _with_lambda(path):
    image = keras.Input((16, 16, 3))
    keras.Model(image, layers.Lambda(lambda x: x * 2)(image)).save(path)


def _other_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "no model")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("hello"), "m.keras is damaged: it is no zip archive"),
        (lambda path: path.write_bytes(b""), "m.keras is damaged: it is no zip archive"),
        (_truncated, "m.keras is damaged: it is truncated. Copy or download it again"),
        (_flipped, "cannot be loaded as a Keras model: "),
        (_other_archive, "cannot be loaded as a Keras model: "),
        (_with_lambda, "cannot be loaded as a Keras model: .*[Ll]ambda.*give it as module:function"),
    ],
)
def test_load_base__explains_what_is_wrong_with_a_file(damage, message, tmp_path):
    damage(tmp_path / "m.keras")
    with pytest.raises(OptionError, match=message):
        load_base(str(tmp_path / "m.keras"))


@pytest.mark.parametrize("name", ["m.h5", "m.weights.h5", "m.keras"])
@pytest.mark.parametrize("given_as", ["base", "weights"])
@pytest.mark.parametrize("share", [0.2, 0.9, 0.999])
def test_load_base__damage_is_named_before_all_else(name, given_as, share, tmp_path):
    path = tmp_path / name
    block().save_weights(path) if "weights" in name else block().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    base, weights = (path, None) if given_as == "base" else ("lenet5", path)
    with pytest.raises(OptionError) as refused:
        load_base(str(base), weights=weights)
    assert str(refused.value) == f"{path} is damaged: it is truncated. Copy or download it again"


def test_load_base__runs_no_code_from_a_legacy_file(tmp_path):
    _with_lambda(tmp_path / "m.h5")
    with pytest.raises(OptionError, match=r"cannot be loaded as a Keras model: .*[Ll]ambda"):
        load_base(str(tmp_path / "m.h5"))


def test_load_base__weights_are_no_base(tmp_path):
    block().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(OptionError, match=r"holds weights without a model. Use: --base NAME --weights"):
        load_base(str(tmp_path / "m.weights.h5"))


@pytest.mark.parametrize("name", ["missing.keras", "missing.h5", "text.h5", "."])
def test_load_base__no_model_there(name, tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(OptionError, match=r"is not a Keras model file|text.h5 is damaged: it is no HDF5"):
        load_base(str(tmp_path / name))


def test_load_base__saved_model_of_keras_2(tmp_path):
    legacy = pytest.importorskip("tf_keras")
    image = legacy.Input((16, 16, 3))
    x = legacy.layers.Conv2D(4, 3, padding="same", name="first")(legacy.layers.Rescaling(1 / 255)(image))
    x = legacy.layers.Add(name="join")([x, legacy.layers.Conv2D(4, 1)(x)])
    model = legacy.Model(image, legacy.layers.GlobalAveragePooling2D()(x))
    model.save(tmp_path / "saved", save_format="tf")
    base = load_base(str(tmp_path / "saved"))
    halves = cut(base, "join", pool="avg")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    expected = model(pixels).numpy()
    np.testing.assert_allclose(halves.tail(halves.trunk(pixels)).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(bottleneck_model(halves)(pixels.astype("uint8")).numpy(), expected, rtol=1e-6)


def test_load_base__saved_model_without_layers(tmp_path):
    block().export(tmp_path / "exported", verbose=False)
    with pytest.raises(OptionError, match=r"without Keras layers \(an export for serving\)"):
        load_base(str(tmp_path / "exported"))

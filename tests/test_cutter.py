import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import Base, load_base
from fastcls.bases.registry import ARCHITECTURES, build
from fastcls.cutter import bottleneck_model, cut, cut_points, default_cut_point, tail_model
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec

keras = import_keras()
layers = keras.layers


def base_of(make, *, shape=(16, 16, 3), normalize="none"):
    keras.utils.set_random_seed(0)
    tensor = keras.Input(shape, name="input")
    return Base("mine", keras.Model(tensor, make(tensor)), shape[:2], normalize)


def residual(x):
    x = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    y = layers.Conv2D(4, 3, padding="same", name="inside")(x)
    x = layers.Add(name="join")([x, y])
    return layers.Conv2D(4, 3, name="last")(x)


def squeezenet_end(x):
    x = layers.Conv2D(8, 3, activation="relu", name="features")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    x = layers.Conv2D(5, 1, name="classes")(x)
    x = layers.ReLU(name="relu")(x)
    return layers.Softmax(name="softmax")(layers.GlobalAveragePooling2D(name="pooled")(x))


def dense_end(x):
    x = layers.GlobalAveragePooling2D(name="pooled")(layers.Conv2D(8, 3, name="conv")(x))
    return layers.Activation("softmax")(layers.Dense(5)(layers.Dropout(0.5)(x)))


def convolution_end(x):
    return layers.Conv2D(8, 3, activation="relu", name="end")(x)


@pytest.mark.parametrize(
    ("make", "layer"),
    [(squeezenet_end, "features"), (dense_end, "pooled"), (convolution_end, "end"), (residual, "last")],
)
def test_default_cut_point__is_before_the_classifier(make, layer):
    model = base_of(make).model
    assert default_cut_point(model, cut_points(model)).layer == layer


@pytest.mark.parametrize(
    ("name", "layer", "shape"),
    [
        ("mobilenet", "global_average_pooling2d", (1, 1, 1024)),
        ("vgg16", "fc2", (4096,)),
        ("efficientnetb0", "avg_pool", (1280,)),
    ],
)
def test_default_cut_point__of_applications_with_classifier(name, layer, shape):
    model = build(ARCHITECTURES[name], (96, 96), None, include_top=True)
    point = default_cut_point(model, cut_points(model))
    assert (point.layer, point.shape) == (layer, shape)


def counted_flops(model):
    """Floating-point operations of a forward pass, as TensorFlow's profiler counts them."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.float32)
    made = convert_variables_to_constants_v2(tf.function(lambda x: model(x)).get_concrete_function(shape))
    options = tf.compat.v1.profiler.ProfileOptionBuilder(
        tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    )
    asked = options.with_empty_output().build()
    return tf.compat.v1.profiler.profile(made.graph, options=asked).total_float_ops


@pytest.mark.parametrize(
    ("name", "layer", "share"),
    [("mobilenetv2", "block_14_add", 0.8), ("resnet18", None, 0.8), ("vgg16", "block4_pool", 0.8)],
)
def test_cut__at_a_share_of_the_multiply_adds(name, layer, share):
    base = load_base(BaseSpec(name, "random", (64, 64)))
    made, whole = cut(base, f"{share:.0%}"), cut(base)
    assert layer in (None, made.layer)
    counted = counted_flops(made.trunk) / counted_flops(whole.trunk)
    assert counted == pytest.approx(share, abs=0.16)
    tail = tail_model(made)
    assert tail.trainable_weights and counted_flops(tail) > 0
    points = {point.layer: point for point in cut_points(base.model)}
    assert points[made.layer].multiply_adds / points[whole.layer].multiply_adds == pytest.approx(
        counted, abs=0.01
    )


def test_cut__at_a_share_takes_the_nearest_where_none_is_near():
    base = load_base(BaseSpec("lenet5", "random"))
    assert [cut(base, share).layer for share in ("80%", "20%", "55.1%")] == ["s4", "s2", "s2"]


@pytest.mark.parametrize(
    ("make", "share", "complaint"),
    [
        (convolution_end, "80%", "mine cannot be cut at 80% of its multiply-adds: no cut point divides them"),
        (residual, "0%", "between 0% and 100%"),
        (residual, "100%", "between 0% and 100%"),
    ],
)
def test_cut__at_a_share_that_cannot_be(make, share, complaint):
    with pytest.raises(OptionError, match=complaint):
        cut(base_of(make), share)


def test_cut_points__are_what_all_paths_pass():
    points = cut_points(base_of(residual).model)
    assert [(p.layer, p.shape) for p in points] == [
        ("stem", (16, 16, 4)),
        ("join", (16, 16, 4)),
        ("last", (14, 14, 4)),
    ]
    work = np.cumsum([16 * 16 * 9 * 3 * 4, 16 * 16 * 9 * 4 * 4, 14 * 14 * 9 * 4 * 4])
    np.testing.assert_allclose([p.share for p in points], work / work[-1])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("Stem", r"no layer 'Stem'.* closest cut points are stem, "),
        ("inside", r"cannot be cut at 'inside': some path .*nearest cut points are (stem, join|join, stem)"),
        ("input", r"no layer 'input'"),
    ],
)
def test_cut__explains_what_it_refuses(layer, message):
    with pytest.raises(OptionError, match=message):
        cut(base_of(residual), layer)


def test_cut__layer_inside_the_classifier_needs_include_top():
    base = load_base(BaseSpec("mobilenet", weights="random", size=(96, 96)))
    with pytest.raises(OptionError, match=r"conv_preds.*--include-top"):
        cut(base, "conv_preds")
    with_top = load_base(BaseSpec("mobilenet", weights="random", size=(96, 96), include_top=True))
    assert cut(with_top, "conv_preds").trunk.output_shape == (None, 1, 1, 1000)


def test_cut__refuses_a_layer_that_is_called_twice():
    def make(x):
        again = layers.Conv2D(3, 3, padding="same", name="again")
        return layers.ReLU()(again(again(x)))

    with pytest.raises(OptionError, match="calls that layer 2 times"):
        cut(base_of(make), "again")


def tokens_end(x):
    x = layers.Conv2D(8, 4, strides=4, name="patches")(x)
    x = layers.Reshape((16, 8), name="tokens")(x)
    x = layers.Add(name="block")([x, layers.MultiHeadAttention(2, 4)(x, x)])
    return layers.LayerNormalization(name="features")(x)


def vector_of_tokens(x):
    return layers.GlobalAveragePooling1D(name="vector")(tokens_end(x))


def volume_end(x):
    return layers.Reshape((4, 4, 4, 12), name="volume")(layers.Conv2D(3, 1, name="conv")(x))


@pytest.mark.parametrize("pool", [None, "avg", "max", "flatten", "none"])
def test_cut__refuses_what_is_no_vector_tokens_or_map(pool):
    message = r"cannot be cut at '\w+': its output is an array of shape .* Expected a vector, tokens"
    with pytest.raises(OptionError, match=message):
        cut(base_of(volume_end), pool=pool)


def test_cut__of_a_map_before_an_array_has_no_tail_to_train():
    halves = cut(base_of(volume_end), "conv")
    assert len(bottleneck_model(halves).output_shape) == 4 and tail_model(halves) is None


@pytest.mark.parametrize(
    ("pool", "reduce"),
    [
        ("avg", lambda tokens: tokens.mean(axis=1)),
        ("max", lambda tokens: tokens.max(axis=1)),
        ("flatten", lambda tokens: tokens.reshape(2, -1)),
        ("none", lambda tokens: tokens),
    ],
)
@pytest.mark.parametrize("layer", [None, "block"])
def test_cut__pools_tokens_over_their_positions(layer, pool, reduce):
    base = base_of(tokens_end)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    halves, whole = (cut(base, layer, pool=kind) for kind in (pool, "none"))
    tokens = np.asarray(bottleneck_model(whole)(pixels))
    assert tokens.shape == (2, 16, 8) and halves.pooling == pool
    rows = np.asarray(bottleneck_model(halves)(pixels))
    np.testing.assert_allclose(rows, reduce(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["patches", "tokens", "block"])
def test_cut__of_a_base_that_ends_in_tokens_has_a_tail_that_averages_them(layer):
    base = base_of(tokens_end)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    halves = cut(base, layer)
    features = tail_model(halves)(bottleneck_model(halves)(pixels))
    np.testing.assert_allclose(
        features, bottleneck_model(cut(base, pool="avg"))(pixels), rtol=1e-5, atol=1e-5
    )


def test_cut__a_vector_made_of_tokens_is_one():
    base = base_of(vector_of_tokens)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    features = tail_model(cut(base, "patches"))(bottleneck_model(cut(base, "patches"))(pixels))
    np.testing.assert_allclose(features, bottleneck_model(cut(base))(pixels), rtol=1e-5, atol=1e-5)


def test_cut__a_vector_has_no_class_token():
    with pytest.raises(OptionError, match=r"output of 'pooled' of mine is a vector.*Leave --pool out"):
        cut(base_of(dense_end), pool="cls")


@pytest.mark.parametrize("option", [{"pool": "average"}, {"dtype": "float64"}, {"precision": "int4"}])
def test_cut__refuses_unknown_options(option):
    with pytest.raises(OptionError, match=r"Unknown \w+: .*Choose one of: "):
        cut(base_of(residual), **option)


def test_cut__trunk_then_tail_is_the_base():
    base = base_of(residual)
    image = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    halves = cut(base, "join")
    np.testing.assert_array_equal(halves.tail(halves.trunk(image)), base.model(image))
    assert cut(base).tail is None


@pytest.mark.parametrize(("end", "layer"), [(dense_end, "conv"), (residual, "join")])
def test_tail_model__goes_on_to_the_features_before_the_classifier(end, layer):
    base = base_of(end)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    whole, halves = cut(base), cut(base, layer)
    features = tail_model(halves)(bottleneck_model(halves)(pixels))
    np.testing.assert_array_equal(features, bottleneck_model(whole)(pixels))
    assert tail_model(whole) is None and tail_model(cut(base, layer, pool="max")) is None


@pytest.mark.parametrize("pool", ["avg", "max", "flatten", "none"])
def test_bottleneck_model__pools(pool):
    base = base_of(residual)
    model = bottleneck_model(cut(base, "join", pool=pool))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    spatial = cut(base, "join").trunk(pixels.astype("float32")).numpy()  # (2, 16, 16, 4)
    expected = {
        "avg": spatial.mean(axis=(1, 2)),
        "max": spatial.max(axis=(1, 2)),
        "flatten": spatial.reshape(2, -1),
        "none": spatial,
    }[pool]
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-5, atol=1e-4)  # sums of 256 values to 1000
    assert model.inputs[0].dtype == "uint8"


def test_bottleneck_model__keeps_names_apart_and_the_base_as_it_was():
    """A base made by fastcls itself has layers of the names that are added here."""

    def make(x):
        x = layers.Rescaling(1 / 255, name="normalize_scale")(x)
        return layers.Conv2D(4, 3, name="pool")(layers.ReLU(name="image")(x))

    base = base_of(make)
    for _ in range(2):
        model = bottleneck_model(cut(base, "pool", pool="avg"))
        assert [o.name for o in model.operations] == [
            *("image_1", "normalize_scale_1", "normalize_scale", "image", "pool", "pool_1")
        ]
    assert not any(graph.is_functional(operation) for operation in model.operations)

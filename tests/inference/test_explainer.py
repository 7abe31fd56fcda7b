"""Class activation maps against computations by hand, in networks of all kinds that fastcls makes."""

import cv2
import numpy as np
import pytest

from fastcls import explain, graph
from fastcls.backend import import_keras
from fastcls.bases.loader import Base
from fastcls.data.decoder import pixel_rule
from fastcls.errors import DataError, OptionError
from fastcls.inference.cams import CAMS, spread_out
from fastcls.inference.classifier import Classifier
from fastcls.inference.overlays import overlay
from fastcls.inference.stitcher import stitch
from fastcls.inference.watched import WatchedNetwork
from fastcls.specs import METHODS, DrawSpec, HeadSpec
from fastcls.tasks import SEVERAL_LABELS
from fastcls.training.heads.knn import neighbor_head
from fastcls.training.heads.network import build_head
from fastcls.training.heads.prototypes import prototype_head
from fastcls.training.networks import build_network

keras = import_keras()
layers = keras.layers
SIZE, CLASSES = (12, 16), ("a", "b", "c")
RANDOM = np.random.default_rng(0)
PHOTOS = RANDOM.integers(0, 256, (3, *SIZE, 3), np.uint8)


def make_trunk(name="trunk"):
    keras.utils.set_random_seed(1)
    image = keras.Input((*SIZE, 3), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="normalize_scale")(image)
    x = layers.Conv2D(5, 3, strides=2, name="first", activation="tanh")(x)
    x = layers.Add(name="join")([layers.Conv2D(5, 1, name="branch")(x), x])
    return keras.Model(image, layers.Conv2D(4, 2, name="last")(x), name=name)


def make_head(shape, activation="softmax"):
    bottleneck = keras.Input(shape)
    x = layers.GlobalAveragePooling2D(name="pool")(bottleneck)
    x = layers.Dense(6, activation="tanh", name="hidden")(x)
    return keras.Model(bottleneck, layers.Dense(3, activation=activation, name="probabilities")(x))


@pytest.fixture(scope="module")
def model():
    trunk = make_trunk()
    return stitch(trunk, make_head(trunk.output.shape[1:]))


def classifier_of(model, **more):
    return Classifier(model, CLASSES, pixel_rule(SIZE), {}, **more)


def logit(maps, model, label):
    """What the head makes of one map (h, w, C), by NumPy."""
    hidden, last = (model.get_layer(name).get_weights() for name in ("hidden", "probabilities"))
    features = np.tanh(maps.mean(axis=(0, 1)) @ hidden[0] + hidden[1])
    return (features @ last[0] + last[1])[label]


def gradient_by_differences(maps, model, label, step=1e-4):
    found = np.zeros_like(maps)
    for place in np.ndindex(maps.shape):
        moved = np.zeros_like(maps)
        moved[place] = step
        found[place] = (logit(maps + moved, model, label) - logit(maps - moved, model, label)) / (2 * step)
    return found


def cam_by_hand(method, maps, gradient):
    """The formulas of the papers, a channel after the other."""
    cam = np.zeros(maps.shape[:2])
    for channel in range(maps.shape[2]):
        a, g = maps[..., channel], gradient[..., channel]
        if method == "grad-cam":
            weight = g.mean()
        else:
            alpha = g**2 / (2 * g**2 + (a * g**3).sum())
            weight = (alpha * np.maximum(g, 0)).sum()
        cam += weight * a
    return np.maximum(cam, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", range(3))
def test_explain__is_what_the_papers_say(model, method, label):
    of_trunk = keras.Model(model.inputs, model.get_layer("last").output).predict(PHOTOS, verbose=0)
    found = explain(classifier_of(model), PHOTOS, {"class_name": CLASSES[label], "method": method})
    for explained, maps in zip(found, of_trunk.astype(np.float64), strict=True):
        expected = cam_by_hand(method, maps, gradient_by_differences(maps, model, label))
        assert explained.class_names == (CLASSES[label],) and explained.maps.shape == (1, *SIZE)
        assert explained.maps.dtype == np.float32
        expected = cv2.resize(expected / (expected.max() or 1), SIZE[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(explained.maps[0], expected / (expected.max() or 1), atol=2e-3)
    assert any(explained.maps.max() == 1 for explained in found)


def test_cams__know_every_method_and_no_evidence():
    assert tuple(CAMS) == METHODS
    maps = RANDOM.normal(size=(2, 3, 4, 5)).astype(np.float32)
    for cam in CAMS.values():
        assert not cam(maps, np.zeros_like(maps)).any()
        assert not cam(np.zeros_like(maps), maps).any()
        assert np.isfinite(cam(np.abs(maps), maps)).all()
    assert not spread_out(np.zeros((3, 4), np.float32), SIZE).any()


@pytest.mark.parametrize("layer", ["first", "branch", "join", "last"])
def test_watched__the_gradient_of_any_layer_is_that_of_the_logit(model, layer):
    watched = WatchedNetwork(model, layer).forward(PHOTOS)
    np.testing.assert_allclose(watched.probabilities, model.predict(PHOTOS, verbose=0), atol=1e-6)
    labels = np.array([2, 0, 1])
    gradients = watched.gradients(labels)
    assert gradients.shape == watched.maps.shape and gradients.any()
    # The derivative of log p is the logit's without the mean of all logits, weighed by probability.
    all_gradients = np.stack([watched.gradients(np.full(3, label)) for label in range(3)])
    np.testing.assert_array_equal(gradients[0], all_gradients[2, 0])
    mean = np.einsum("bk,kbhwc->bhwc", watched.probabilities, all_gradients)
    rest = WatchedNetwork(_with_log(model), layer).forward(PHOTOS).gradients(labels)
    np.testing.assert_allclose(gradients - mean, rest, atol=1e-5)


def _with_log(model):
    """The same network, whose logits are log-probabilities."""
    logits = keras.ops.log(model.outputs[0])
    return keras.Model(model.inputs, layers.Softmax(name="again")(logits))


def _nested(model):
    """The same network as peers make it: a trunk inside of a classifier, in which is a Sequential head."""
    trunk, image = make_trunk(), keras.Input((*SIZE, 3), dtype="uint8")
    own = [model.get_layer(name) for name in ("pool", "hidden", "probabilities")]
    head = keras.Sequential([type(layer).from_config(layer.get_config()) for layer in own])
    nested = keras.Model(image, head(trunk(image)))
    nested.set_weights(model.get_weights())
    return nested


def _split_activation(model):
    own = model.get_layer("probabilities")
    linear = layers.Dense(3, name="linear")
    probabilities = layers.Activation("softmax", name="squashed")(
        linear(graph.nodes(model)[-1].input_tensors[0])
    )
    linear.set_weights(own.get_weights())
    return keras.Model(model.inputs, layers.Dropout(0.5, name="noise")(probabilities))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [_nested, _split_activation])
def test_explain__nested_and_differently_ended_networks_are_the_same(model, change, method):
    how = {"top_k": 3, "method": method, "layer": "last"}
    expected, found = (explain(classifier_of(m), PHOTOS, how) for m in (model, change(model)))
    for one, other in zip(expected, found, strict=True):
        assert one.class_names == other.class_names
        np.testing.assert_allclose(one.maps, other.maps, atol=1e-5)
        np.testing.assert_allclose(one.confidences, other.confidences, atol=1e-6)
    assert max(one.maps.max() for one in expected) == 1


def test_explain__leaves_the_network_as_it_was(model):
    calls = {layer.name: len(layer._inbound_nodes) for layer in model.layers}
    weights = [weight.copy() for weight in model.get_weights()]
    explain(classifier_of(model), PHOTOS)
    assert {layer.name: len(layer._inbound_nodes) for layer in model.layers} == calls
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def _pooled(name):
    trunk = make_trunk()
    return keras.Model(trunk.inputs, layers.Flatten(name=name)(trunk.outputs[0]), name="trunk")


def test_explain__works_for_a_network_that_was_finetuned():
    trunk = make_trunk()
    image = keras.Input((*SIZE, 3))
    base = Base(
        "mine", keras.Model(image, layers.GlobalMaxPooling2D()(graph.replay(trunk, image))), SIZE, "caffe"
    )
    model = build_network(base, HeadSpec("linear"), 3, downscale=2)
    larger = RANDOM.integers(0, 256, (2, *model.input.shape[1:3], 3), np.uint8)
    found = explain(Classifier(model, CLASSES, pixel_rule(larger.shape[1:3]), {}), larger, {"top_k": 3})
    assert [one.maps.shape for one in found] == [(3, *larger.shape[1:3])] * 2
    np.testing.assert_allclose([sum(one.confidences) for one in found], 1, rtol=1e-5)


@pytest.mark.parametrize("head", ["linear", "deep", "prototype", "tail"])
def test_explain__works_for_all_heads_that_have_logits(head):
    trunk = _pooled("pool") if head != "tail" else make_trunk()
    shape = trunk.output.shape[1:]
    if head == "prototype":
        made = prototype_head(shape, RANDOM.normal(size=(shape[0], 3)).astype(np.float32), 0.1)
    elif head == "tail":
        bottleneck = keras.Input(shape)
        x = layers.Conv2D(3, 2, name="of_tail", activation="relu")(bottleneck)
        tail = keras.Model(bottleneck, layers.GlobalAveragePooling2D()(x))
        made = build_head(HeadSpec("tail"), shape, 3, tail)
    else:
        made = build_head(HeadSpec("linear", layers=(8, 0.5) if head == "deep" else ()), shape, 3)
    model = stitch(trunk, made)
    found = explain(classifier_of(model), PHOTOS, {"top_k": 3})
    assert WatchedNetwork(model).layer == ("of_tail" if head == "tail" else "last")
    assert [one.class_names[0] for one in found] == [
        CLASSES[label] for label in model.predict(PHOTOS, verbose=0).argmax(axis=1)
    ]
    assert np.stack([one.maps for one in found]).max() == 1


def test_explain__of_several_labels_those_over_their_threshold():
    trunk = make_trunk()
    model = stitch(trunk, make_head(trunk.output.shape[1:], "sigmoid"))
    classifier = classifier_of(model, thresholds=(0.5, 0.01, 0.999), task=SEVERAL_LABELS)
    rows = model.predict(PHOTOS, verbose=0)
    for row, one in zip(rows, explain(classifier, PHOTOS), strict=True):
        reached = [label for label in np.argsort(-row) if row[label] >= classifier.thresholds[label]]
        assert one.class_names == tuple(CLASSES[label] for label in reached)
        np.testing.assert_allclose(one.confidences, row[reached], atol=1e-6)
        assert len(one.maps) == len(reached)
    assert all(one.class_names == () for one in explain(classifier, PHOTOS, {"threshold": 1.0}))
    assert all(len(one.class_names) == 2 for one in explain(classifier, PHOTOS, {"top_k": 2}))


def test_explain__names_unreadable_images_and_keeps_the_order(model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "good.png"), PHOTOS[0])
    found = explain(
        classifier_of(model), [tmp_path / "bad.png", PHOTOS[1], tmp_path / "good.png"], batch_size=2
    )
    assert [one.path and one.path.name for one in found] == ["bad.png", None, "good.png"]
    assert "not an image" in found[0].reason and found[0].probabilities is None and len(found[0].maps) == 0
    alone = explain(classifier_of(model), PHOTOS[1])[0]
    np.testing.assert_allclose(found[1].maps, alone.maps, atol=1e-5)


def _ends(*after):
    image = keras.Input((*SIZE, 3), dtype="uint8")
    x = layers.Conv2D(3, 1, name="normalize_bgr")(layers.Rescaling(1.0)(image))
    for layer in after:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    ("make", "how", "message"),
    [
        (None, {"layer": "brunch"}, "no layer 'brunch'. The closest that give a map are branch"),
        (None, {"layer": "hidden"}, r"'hidden' gives an array of shape \(6,\).*join, last"),
        (None, {"class_name": "d"}, "no class 'd'. The closest are"),
        (None, {"threshold": 0.5}, "--threshold has no effect with one label per image"),
        (None, {"class_name": "a", "top_k": 2}, "--top-k has no effect with --class a"),
        (lambda: _ends(layers.Flatten(), layers.Dense(3, "softmax")), {}, "has no map before its head"),
        (
            lambda: _ends(layers.Conv2D(4, 3, name="patches"), layers.Reshape((-1, 4), name="tokens"),
                          layers.Dense(4), layers.GlobalAveragePooling1D(), layers.Dense(3, "softmax")),
            {},
            "'patches', is made into tokens",
        ),
        (lambda: _ends(layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()), {}, "has no logits"),
        (
            lambda: stitch(_pooled("flat"), neighbor_head((96,), np.ones((96, 4)), np.arange(4) % 3, 3, 2)),
            {},
            "has no logits.* knn",
        ),
    ],
)  # fmt: skip
def test_explain__refuses_what_has_no_answer(model, make, how, message):
    with pytest.raises(OptionError, match=message):
        explain(classifier_of(make() if make else model), PHOTOS, how)


def test_explain__refuses_a_layer_that_is_called_twice(model):
    image, twice = keras.Input((*SIZE, 3)), layers.Conv2D(3, 1, name="twice")
    x = layers.GlobalAveragePooling2D()(twice(twice(image)))
    shared = keras.Model(image, layers.Dense(3, "softmax")(x))
    with pytest.raises(OptionError, match="'twice' cannot be explained: it is called 2 times"):
        explain(classifier_of(shared), PHOTOS, {"layer": "twice"})
    with pytest.raises(DataError, match="Expected an RGB array"):
        explain(classifier_of(model), PHOTOS.astype(float))


def test_overlay__evidence_lies_on_the_part_of_the_photo_that_was_seen(model):
    wide = np.random.default_rng(5).integers(0, 256, (24, 80, 3), np.uint8)
    middle = np.ascontiguousarray(wide[:, 24:56])
    cropped = Classifier(model, CLASSES, pixel_rule(SIZE, resize="crop"), {})
    (found,), (alone,) = explain(cropped, [wide]), explain(classifier_of(model), [middle])
    np.testing.assert_array_equal(found.maps, alone.maps)
    shown, expected = overlay(found, 0, DrawSpec(size=80)), overlay(alone, 0, DrawSpec(size=32))
    np.testing.assert_array_equal(shown[:, 24:56], expected)
    gray = cv2.cvtColor(wide, cv2.COLOR_RGB2GRAY)[..., None]
    beside = np.concatenate([(shown - 0.65 * gray)[:, :24], (shown - 0.65 * gray)[:, 56:]], axis=1)
    assert np.ptp(beside, axis=(0, 1)).max() <= 1.01  # one color: that of no evidence
    assert not np.array_equal(overlay(explain(classifier_of(model), [wide])[0], 0, DrawSpec(size=80)), shown)

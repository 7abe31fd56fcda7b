"""What cannot be read of Keras 2 is refused in one line that names the file and what is in the way."""

import random
import zipfile

import h5py
import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.errors import OptionError

keras = import_keras()


def refusal(path):
    with pytest.raises(OptionError) as caught:
        load_base(str(path))
    message = str(caught.value)
    assert message.startswith(f"{path} ") and "\n" not in message
    return message


def _layer(name, **changes):
    def change(config, layers):
        layers[name] |= {key: value for key, value in changes.items() if key != "config"}
        layers[name]["config"] |= changes.get("config", {})

    return change


def _other(name, kind, **config):
    def change(_, layers):
        layers[name] |= {"class_name": kind, "config": {"name": name, **config}}

    return change


def _call(name, **options):
    def change(config, layers):
        layers[name]["inbound_nodes"][0][0][3] = options

    return change


def _two_inputs(config, layers):
    config["config"]["layers"].append({**layers["image"], "name": "other"})
    config["config"]["input_layers"].append(["other", 0, 0])


def _no_shape(config, layers):
    layers["image"]["config"]["batch_input_shape"] = None


def _foreign_module(config, layers):
    layers["pool"]["module"] = "mine"


def _subclassed(config, layers):
    return {**config, "class_name": "Net"}


def _no_class(config, layers):
    del layers["pool"]["class_name"]


def _missing_input(config, layers):
    layers["pool"]["inbound_nodes"] = [[["nowhere", 0, 0, {}]]]


LAMBDA = {"class_name": "Lambda", "config": {"name": "planted", "function": ["4wEAAA==", None, None]}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_layer("pool", class_name="Lambda"), "layer 'pool' is a Lambda, Python code inside the file"),
        (_layer("pool", class_name="Own"), "layer 'pool' is a Own, which is not one of Keras's own layers"),
        (_layer("pool", class_name="TFSMLayer"), "layer 'pool' is a TFSMLayer, which is not one of"),
        (_layer("pool", class_name="StringLookup"), "layer 'pool' is a StringLookup, which is not one of"),
        (_layer("pool", class_name="mine>Pool"), "layer 'pool' is a mine>Pool, which is not one of"),
        (_foreign_module, "layer 'pool' is a mine>GlobalAveragePooling2D, which is not one of"),
        (
            _other("pool", "TimeDistributed", layer=LAMBDA),
            "layer 'planted' is a Lambda",
        ),
        (
            _other("pool", "Bidirectional", layer=LAMBDA),
            "layer 'pool' (Bidirectional) holds an object as its layer, which is not read",
        ),
        (_layer("scores", config={"activation": "swished"}), "layer 'scores' has the activation 'swished'"),
        (_layer("scores", config={"activation": LAMBDA}), "has the activation Lambda, which is not one"),
        (_layer("scores", config={"bent": 2}), "layer 'scores' (Dense) has bent=2, which Keras 3 does not"),
        (_layer("scores", config={"units": 4}), "of layer 'scores' is of shape (2, 3). Expected: (2, 4)"),
        (
            _layer("scores", config={"use_bias": False}),
            "layer 'scores', a Dense, holds 2 weights. That of Keras has 1",
        ),
        (_other("pool", "PReLU"), "layer 'pool', a PReLU, holds 0 weights. That of Keras has 1"),
        (_other("scores", "Attention"), "layer 'scores' is not the Attention of Keras 3: "),
        (_call("scores", training=True), "layer 'scores' is called with training=True"),
        (
            _layer("tf.math.truediv", config={"function": "image.adjust_hue"}),
            "it calls TensorFlow's image.adjust_hue, which is not known here",
        ),
        (_call("inner", way=3, training=True), "layer 'inner' is called with training=True"),
        (_two_inputs, "it takes 2 inputs: image, other. A base takes one, of images"),
        (_no_shape, "it does not say what images it takes"),
        (_subclassed, "it holds a Net, a model whose structure is in Python code only"),
        (_missing_input, "the inputs of layer 'pool' are not in it"),
        (_no_class, "its configuration is damaged"),
    ],
)
def test_load_base__refuses_by_name(change, reason, edited):
    message = refusal(edited(change))
    assert reason in message
    assert message.endswith("give it as module:function, a function that returns the model")


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("keras_version", "1.2.2", "it was saved by Keras 1.2.2. Models of Keras 2 and 3 are read"),
        ("backend", "theano", "it was saved by Keras on Theano"),
    ],
)
def test_load_base__refuses_other_kerases(attribute, value, reason, tiny):
    with h5py.File(tiny / "m.h5", "a") as file:
        file.attrs[attribute] = value
    assert reason in refusal(tiny / "m.h5")


@pytest.mark.parametrize("link", ["external", "storage"])
def test_load_base__weights_in_other_files_are_not_read(link, tiny):
    with h5py.File(tiny / "other.h5", "w") as other:
        other["values"] = np.ones(3, "float32")
    (tiny / "values").write_bytes(bytes(12))
    with h5py.File(tiny / "m.h5", "a") as file:
        group, name = file["model_weights/scores/scores"], "bias:0"
        del group[name]
        if link == "storage":
            group.create_dataset(name, (3,), "float32", external=[(str(tiny / "values"), 0, 12)])
        else:
            group[name] = h5py.ExternalLink(str(tiny / "other.h5"), "values")
    assert "bias:0 are a link to another file, which is not read" in refusal(tiny / "m.h5")


def test_load_base__an_archive_that_fills_the_memory(tiny):
    with zipfile.ZipFile(tiny / "m.keras") as archive:
        kept = {name: archive.read(name) for name in ("config.json", "metadata.json")}
    with zipfile.ZipFile(tiny / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in kept.items():
            archive.writestr(name, data)
        archive.writestr("model.weights.h5", bytes(1 << 22))
    assert "model.weights.h5 is too large" in refusal(tiny / "m.keras")


@pytest.mark.parametrize(
    "name",
    ["m.h5", "m.keras", *(f"saved/{n}" for n in ("keras_metadata.pb", "variables/variables.index"))],
)
def test_load_base__damaged_files(name, tiny):
    """A file cut short is refused; a flipped byte too, or it is in what nobody checks, such as a weight."""
    path, base = tiny / name, tiny / name.partition("/")[0]
    whole = path.read_bytes()
    for share in (0.0, 0.3, 0.7):
        path.write_bytes(whole[: int(share * len(whole))])
        refusal(base)
    places = random.Random(0)
    for _ in range(8):
        data = bytearray(whole)
        data[places.randrange(len(data))] ^= 0xFF
        path.write_bytes(data)
        try:
            assert load_base(str(base)).size == (8, 8)
        except OptionError as error:
            assert str(base) in str(error) and "\n" not in str(error)

"""Models of Keras 2 in all forms in which they are stored; tf_keras is not needed to read them."""

import json
import shutil
import sys
import warnings

import h5py
import numpy as np
import pytest

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.cutter import bottleneck_model, cut, cut_points

keras = import_keras()
PIXELS = (np.arange(2 * 8 * 8 * 3) * 7 % 256).reshape(2, 8, 8, 3).astype("float32")
# What tf_keras computes for them.
SCORES = [[0.18952912, 0.4390987, 0.37137216], [0.17939243, 0.40631127, 0.41429624]]
CUTS = (
    *("tf.math.truediv", "tf.math.subtract", "block_conv"),
    *("block_conv_activation_2", "block_conv_activation_1", "block_conv_activation"),
    *("norm", "clipped", "depthwise", "pool", "scores"),
)


@pytest.fixture(autouse=True)
def without_tf_keras(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf_keras", None)


def require_same(path):
    model = load_base(str(path)).model
    np.testing.assert_allclose(model(PIXELS), SCORES, rtol=1e-5)
    return model


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "saved"])
def test_load_base__keras_2(name, tiny, caplog, capfd, recwarn):
    warnings.simplefilter("always")
    base = load_base(str(tiny / name))
    assert (base.size, base.normalize) == ((8, 8), "none")  # behind the augmentation, it is inside
    require_same(tiny / name)
    assert tuple(point.layer for point in cut_points(base.model)) == CUTS
    for layer in CUTS[:-1]:
        halves = cut(base, layer, pool="none")
        np.testing.assert_allclose(halves.tail(halves.trunk(PIXELS)), SCORES, rtol=1e-5)
    made = bottleneck_model(cut(base, "scores", pool="none"))
    np.testing.assert_allclose(made(PIXELS.astype("uint8")), SCORES, rtol=1e-5)
    assert not caplog.text and not recwarn.list and "loaded model" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "saved"])
def test_load_base__keras_2_saved_again_is_plain_keras_3(name, tiny):
    model = require_same(tiny / name)
    assert all(graph.is_built_in(operation) for operation in model.operations)
    model.save(tiny / "again.keras")
    np.testing.assert_allclose(keras.saving.load_model(tiny / "again.keras")(PIXELS), SCORES, rtol=1e-5)


def test_load_base__metadata_inside_the_graph(tiny):
    """Up to TensorFlow 2.4 there was no keras_metadata.pb."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    from fastcls.bases.stored_models import read_stored_model

    config = read_stored_model(tiny / "saved").config
    (tiny / "saved" / "keras_metadata.pb").unlink()
    saved = SavedModel()
    root = saved.meta_graphs.add().object_graph_def.nodes.add()
    root.user_object.metadata = json.dumps(config)
    (tiny / "saved" / "saved_model.pb").write_bytes(saved.SerializeToString())
    require_same(tiny / "saved")


def _list_of_layers(config, layers):
    layers["inner"]["config"] = layers["inner"]["config"]["layers"]


def _model(config, layers):
    return {**config, "class_name": "Model"}


def _normalization(config, layers):
    norm = layers["inner"]["config"]["layers"][1]
    norm["class_name"] = "BatchNormalizationV1"
    norm["config"] |= {"axis": {"class_name": "__tuple__", "items": [3]}, "virtual_batch_size": None}


def _arrays(config, layers):
    layers["inner"]["config"]["layers"][2] = {
        "class_name": "LeakyReLU",
        "config": {"name": "clipped", "alpha": {"class_name": "__numpy__", "config": {"value": 0.0}}},
    }


def _any_order(config, layers):
    config["config"]["layers"].reverse()


def _raw_operations(config, layers):
    divided, subtracted = layers["tf.math.truediv"], layers["tf.math.subtract"]
    for layer, kind, constant, source in (
        (divided, "RealDiv", 127.5, "flip"),
        (subtracted, "Sub", 1.0, "tf.math.truediv"),
    ):
        layer["class_name"] = "TensorFlowOpLayer"
        layer["config"] = {
            "name": layer["name"],
            "node_def": {"op": kind, "name": kind},
            "constants": {"1": constant},
        }
        layer["inbound_nodes"] = [[[source, 0, 0, {}]]]


@pytest.mark.parametrize(
    "change", [_list_of_layers, _model, _normalization, _arrays, _any_order, _raw_operations]
)
def test_load_base__older_forms(change, edited):
    model = require_same(edited(change))
    assert tuple(point.layer for point in cut_points(model)) == CUTS


def test_load_base__names_of_weights_in_several_attributes(tiny):
    with h5py.File(tiny / "m.h5", "a") as file:
        for name in ("block/conv", "depthwise", "inner", "scores"):
            layer = file["model_weights"][name]
            names = list(layer.attrs["weight_names"])
            del layer.attrs["weight_names"]
            layer.attrs["weight_names0"], layer.attrs["weight_names1"] = names[:1], names[1:]
    require_same(tiny / "m.h5")


def test_load_base__hdf5_is_h5(tiny):
    require_same(shutil.move(tiny / "m.h5", tiny / "m.hdf5"))

"""What each format writes gives what Keras gives, for what converters stumble over."""

import json

import exports_support as support
import networks_support
import numpy as np
import pytest

from fastcls.exporting.runtimes import open_export
from fastcls.exporting.source import Network, Source
from fastcls.specs.exporting import FORMATS

IMAGES = support.some_images(40, seed=5)
DOCUMENT = {**support.DESCRIBED, "class_names": ["a rose", 'b, "c"', "déjà vu"]}
# A depthwise convolution is what int8 fails at, and a knn what it may not be written for.
LOWER = [
    *(("onnx", "float16", name) for name in ("depthwise", "knn")),
    *(("openvino", "float16", name) for name in ("grouped", "transformer")),
    *(("litert", "float16", name) for name in ("caffe", "knn")),
    *(("openvino", "int8", name) for name in ("depthwise", "caffe")),
    *(("litert", "int8", name) for name in ("depthwise", "grouped")),
]
CASES = [(name, "float32", network) for name in FORMATS for network in networks_support.NETWORKS] + LOWER
BOUNDS = {"float32": 1e-5, "float16": 0.02, "int8": 0.25}


@pytest.fixture(scope="module")
def networks():
    return {name: Network(networks_support.build(name)) for name in networks_support.NETWORKS}


@pytest.mark.parametrize(("name", "precision", "network"), CASES)
def test_write__gives_the_probabilities_of_keras(networks, tmp_path, name, precision, network):
    known = networks[network]
    expected = np.asarray(known.model(IMAGES, training=False))
    assert np.std(expected, axis=0).max() > 0.02  # what is wrong is seen
    FORMATS[name].write(Source(known, DOCUMENT, precision, IMAGES[:20]), tmp_path)
    export = open_export(tmp_path)
    assert export.described == DOCUMENT
    found = np.concatenate([export.run(IMAGES[:1]), export.run(IMAGES[1:])])  # any number of images
    apart = np.abs(found - expected).max(axis=1)
    if network == "knn":  # whose votes jump
        assert np.mean(apart > 1e-3) < 0.2
    else:
        assert apart.max() < BOUNDS[precision]


def test_write_onnx__names_its_input_output_and_batch(networks, tmp_path):
    onnx = pytest.importorskip("onnx")
    FORMATS["onnx"].write(Source(networks["grouped"], DOCUMENT), tmp_path)
    model = onnx.load(tmp_path / "classifier.onnx")
    (entry,), (end,) = model.graph.input, model.graph.output
    sides = [side.dim_param or side.dim_value for side in entry.type.tensor_type.shape.dim]
    assert (entry.name, end.name, sides) == ("image", "probabilities", ["batch", 16, 16, 3])
    props = {each.key: each.value for each in model.metadata_props}
    assert json.loads(props["names"]) == DOCUMENT["class_names"]
    assert {each.domain for each in model.opset_import} <= {"", "ai.onnx.ml"}


def test_write_openvino__tells_its_tools_the_classes(networks, tmp_path):
    openvino = pytest.importorskip("openvino")
    FORMATS["openvino"].write(Source(networks["caffe"], DOCUMENT), tmp_path)
    model = openvino.Core().read_model(tmp_path / "classifier.xml")
    labels = model.get_rt_info(["model_info", "labels"]).astype(str)
    assert labels == 'a_rose b,_"c" déjà_vu'
    assert model.inputs[0].get_names() == {"image"}
    assert model.outputs[0].get_names() == {"probabilities"}


def test_write_openvino__fuses_what_it_has_kernels_for(networks, tmp_path):
    openvino = pytest.importorskip("openvino")
    FORMATS["openvino"].write(Source(networks["transformer"], DOCUMENT), tmp_path)
    model = openvino.Core().read_model(tmp_path / "classifier.xml")
    kinds = [node.get_type_name() for node in model.get_ordered_ops()]
    assert [kinds.count(name) for name in ("MVN", "ScaledDotProductAttention", "Gelu")] == [2, 1, 1]
    assert [each.get_any_name() for each in model.outputs] == ["probabilities"]

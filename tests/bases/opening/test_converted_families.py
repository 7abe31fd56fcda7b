"""Opened transformers in other runtimes, and as files for plain Keras: a family for each rule."""

import json
import subprocess
import sys

import numpy as np
import pytest
from families_support import SHAPE, make

from fastcls import graph
from fastcls.backend import import_keras
from fastcls.bases.hub import _to_the_deepest
from fastcls.bases.loader import Base
from fastcls.bases.opening.foreign import open_layers
from fastcls.cutter import bottleneck_model, cut
from fastcls.engines.openvino_core import core, import_openvino
from fastcls.exporting.source import Network
from fastcls.extraction.fidelity import BOUNDS, compare

keras = import_keras()
PIXELS = np.random.default_rng(3).integers(0, 256, (2, *SHAPE), np.uint8)
# Embeddings and layer scales, attention pooling, rotary positions, windows, a hierarchy, relative positions,
# learned factors, and layers of maps. The others are made of the same rules, or of layers of Keras alone.
COVER = ("dinov2_with_registers", "siglip", "dinov3_gated", "swin", "mit", "vitdet", "hgnetv2", "mobilenetv5")
# Loads each file where neither library can be imported.
CHECK = """
import json, sys, numpy as np
sys.modules.update(keras_hub=None, fastcls=None)
import keras
folder, names = sys.argv[1], json.loads(sys.argv[2])
pixels = np.load(f"{folder}/pixels.npy")
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras", compile=False)
    np.testing.assert_array_equal(model(pixels), np.load(f"{folder}/{name}.npy"), err_msg=name)
print("all")
"""


@pytest.fixture(scope="module")
def trunks(tmp_path_factory):
    """Image -> bottleneck of each family, made once, and saved in a folder with what it gives."""
    folder, made = tmp_path_factory.mktemp("trunks"), {}
    np.save(folder / "pixels.npy", PIXELS)

    def get(family):
        if family not in made:
            image = keras.Input(SHAPE, name="input")
            found = open_layers(_to_the_deepest(make(family)), image)
            model = keras.Model(image, found.output)
            graph.rename_apart(model.operations, taken=())
            trunk = bottleneck_model(cut(Base(family, model, SHAPE[:2], "torch", found.prefix_tokens)))
            made[family] = trunk, trunk(PIXELS).numpy()
            trunk.save(folder / f"{family}.keras")
            np.save(folder / f"{family}.npy", made[family][1])
        return made[family]

    return get, folder


@pytest.mark.parametrize("family", COVER)
def test_converted__is_the_same_in_openvino(family, trunks):
    trunk, expected = trunks[0](family)
    exact = run_openvino(Network(trunk), "f32")
    np.testing.assert_allclose(exact, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-5)


@pytest.mark.parametrize("family", ["dinov3_gated", "swin"])
def test_converted__is_the_same_in_litert_and_near_in_bfloat16(family, trunks):
    trunk, expected = trunks[0](family)
    network = Network(trunk)
    made, rounded = run_litert(network), run_openvino(network, "bf16")
    np.testing.assert_allclose(made, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-5)
    largest, smallest_cosine, _ = BOUNDS["bfloat16"]
    found = compare(rounded.reshape(len(PIXELS), -1), expected.reshape(len(PIXELS), -1))
    assert found.largest_error < largest and found.smallest_cosine > smallest_cosine


def run_openvino(network, precision):
    converted = import_openvino().convert_model(network.traced)
    return core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": precision})(PIXELS)[0]


def run_litert(network):
    import tensorflow as tf

    litert = pytest.importorskip("ai_edge_litert.interpreter")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.frozen])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = litert.Interpreter(model_content=converter.convert())
    (given,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], PIXELS.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], PIXELS)
    interpreter.invoke()
    return interpreter.get_tensor(output["index"])


def test_saved__loads_with_plain_keras(trunks):
    get, folder = trunks
    for family in COVER:
        get(family)
    ended = subprocess.run(
        [sys.executable, "-c", CHECK, folder, json.dumps([*COVER])],
        **{"capture_output": True, "text": True, "timeout": 120},
    )
    assert ended.stdout == "all\n", ended.stderr

"""A tiny classifier whose answers depend on the image, and its exports, written by the plainest calls."""

import json
import zipfile

import numpy as np

from fastcls.backend import import_keras
from fastcls.exporting.runtimes import MEMBER, ONNX_KEY, OPENVINO_KEYS, RUNTIMES

SIZE = (16, 16)
NAMES = ("déjà vu", "a, b", "c\"d'")
DESCRIBED = {
    "class_names": list(NAMES),
    "task": "one label",
    "thresholds": None,
    "pixels": {"size": list(SIZE), "decode": "opencv", "resize": "area"},
    "export": {"precision": "float32"},
}


def some_images(count, seed=0):
    """(count, 16, 16, 3) uint8: stripes of colors on slopes, with noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:16, 0:16][..., None] / 16
    waves = np.sin(2 * np.pi * (random.uniform(0.5, 3, (count, 1, 1, 3)) * x + random.uniform(0, 1, 3)))
    slopes = random.uniform(-60, 60, (count, 1, 1, 3)) * y
    noise = random.normal(0, 8, (count, *SIZE, 3))
    return np.clip(random.uniform(60, 190, (count, 1, 1, 3)) + 50 * waves + slopes + noise, 0, 255).astype(
        np.uint8
    )


def tiny_model(activation="softmax", normalization="torch", classes=3):
    """Image (B, 16, 16, 3) -> probabilities (B, classes); the same weights each time."""
    from fastcls.bases.normalize import normalize

    keras = import_keras()
    random = np.random.default_rng(3)
    image = keras.Input((*SIZE, 3), dtype="uint8", name="image")
    x = normalize(image, normalization)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dense(6, activation="relu", name="dense")(x)
    model = keras.Model(image, keras.layers.Dense(classes, activation=activation, name="head_logits")(x))
    for layer in model.layers:
        if layer.name in ("conv", "dense", "head_logits"):
            kernel, bias = layer.get_weights()
            scale = (3 if layer.name == "head_logits" else 1.5) / np.sqrt(np.prod(kernel.shape[:-1]))
            layer.set_weights([random.normal(0, scale, kernel.shape), random.normal(0, 0.3, bias.shape)])
    return model


def frozen(model):
    """The model as a graph without variables, image -> probabilities."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8, name="image")
    called = tf.function(lambda image: tf.identity(model(image, training=False), name="probabilities"))
    return convert_variables_to_constants_v2(called.get_concrete_function(spec))


def write_export(model, name, folder, described=None):
    """Export a model in a format; returns its file."""
    folder.mkdir(parents=True)
    place = folder / RUNTIMES[name].name
    WRITERS[name](model, place, json.dumps(described or DESCRIBED, ensure_ascii=False))
    return place


def _write_onnx(model, place, text):
    import onnx
    import tf2onnx

    graph = frozen(model)
    ends = graph.inputs[0].name, graph.outputs[0].name
    made, _ = tf2onnx.convert.from_graph_def(
        graph.graph.as_graph_def(),
        input_names=[ends[0]],
        output_names=[ends[1]],
        opset=18,
        tensors_to_rename=dict(zip(ends, ("image", "probabilities"), strict=True)),
    )
    onnx.helper.set_model_props(made, {ONNX_KEY: text})
    onnx.save(made, place)


def _write_openvino(model, place, text):
    import openvino as ov

    made = ov.convert_model(frozen(model).graph)
    made.inputs[0].set_names({"image"})
    made.outputs[0].set_names({"probabilities"})
    made.set_rt_info(text, list(OPENVINO_KEYS))
    ov.save_model(made, place, compress_to_fp16=False)


def _write_litert(model, place, text):
    import tensorflow as tf

    place.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen(model)]).convert())
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr(MEMBER, text)


def _write_saved_model(model, place, text):
    import tensorflow as tf

    module, asset = tf.Module(), place.parent / MEMBER
    asset.write_text(text)
    module.model, module.described = model, tf.saved_model.Asset(str(asset))
    spec = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8, name="image")
    serve = tf.function(lambda image: {"probabilities": model(image, training=False)})
    tf.saved_model.save(module, str(place), signatures={"serving_default": serve.get_concrete_function(spec)})
    asset.unlink()


def _write_graph(model, place, text):
    place.write_bytes(frozen(model).graph.as_graph_def().SerializeToString())
    (place.parent / MEMBER).write_text(text)


WRITERS = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "litert": _write_litert,
    "savedmodel": _write_saved_model,
    "graphdef": _write_graph,
}

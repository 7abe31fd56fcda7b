"""SavedModel: what TensorFlow and TensorFlow Serving load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.exporting.encoded import ENCODED, pixels_of
from fastcls.exporting.runtimes import INPUT, MEMBER, OUTPUT, RUNTIMES
from fastcls.exporting.source import Source


def write(source: Source, folder: Path) -> None:
    """Write saved_model/ into a folder: what travels with it is an asset."""
    import tensorflow as tf

    # Keras's own export holds the weights twice.
    module = tf.Module()
    module.model = source.network.model
    with files.temporary_folder(folder) as place:
        path = place / MEMBER
        path.write_text(source.text, encoding="utf-8")
        module.document = tf.saved_model.Asset(str(path))
        tf.saved_model.save(module, str(folder / RUNTIMES["savedmodel"].name), signatures=_signatures(source))


def _signatures(source: Source) -> dict[str, Any]:
    import tensorflow as tf

    model = source.network.model
    height, width = model.inputs[0].shape[1:3]
    images = tf.TensorSpec((None, height, width, 3), tf.uint8, name=INPUT)

    @tf.function(input_signature=[images])
    def serve(image: Any) -> dict[str, Any]:
        return {OUTPUT: model(image, training=False)}

    if source.encoded is None:
        return {"serving_default": serve}
    decode = pixels_of(source.encoded)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name=ENCODED)])
    def serve_encoded(image_bytes: Any) -> dict[str, Any]:
        return {OUTPUT: model(decode(image_bytes), training=False)}

    return {"serving_default": serve, ENCODED: serve_encoded}

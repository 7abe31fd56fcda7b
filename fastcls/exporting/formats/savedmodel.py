"""SavedModel: what TensorFlow and TensorFlow Serving load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastcls import files
from fastcls.exporting.runtimes import INPUT, MEMBER, OUTPUT, RUNTIMES
from fastcls.exporting.source import Source

ENCODED = "image_bytes"


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

    height, width = source.network.model.inputs[0].shape[1:3]
    shape = tf.TensorSpec((None, height, width, 3), tf.uint8, name=INPUT)

    @tf.function(input_signature=[shape])
    def serve(image: Any) -> dict[str, Any]:
        return {OUTPUT: source.network.model(image, training=False)}

    return {"serving_default": serve}

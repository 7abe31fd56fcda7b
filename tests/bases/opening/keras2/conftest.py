import json
import zipfile
from pathlib import Path

import h5py
import pytest

# One model of 93 parameters in each format, written by tf_keras 2.21 (the SavedModel without its graphs):
#   inner = Sequential([BatchNormalization(name="norm"), ReLU(6.0, name="clipped")], name="inner")
#   x = RandomFlip("horizontal", name="flip")(image) / 127.5 - 1
#   x = Conv2D(2, 3, strides=2, activation="hard_sigmoid", name="block/conv")(x)
#   x = DepthwiseConv2D(3, name="depthwise")(inner(x))
#   x = Dense(3, activation="softmax", name="scores")(GlobalAveragePooling2D(name="pool")(x))
_TINY = Path(__file__).parent / "tiny.zip"


@pytest.fixture
def tiny(tmp_path):
    """A folder with m.h5, m.keras and the SavedModel `saved`."""
    with zipfile.ZipFile(_TINY) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def edited(tiny):
    """Returns a function that changes the configuration in m.h5, and returns the file's path."""

    def edit(change):
        with h5py.File(tiny / "m.h5", "a") as file:
            config = json.loads(file.attrs["model_config"])
            layers = {layer["config"]["name"]: layer for layer in config["config"]["layers"]}
            changed = change(config, layers) or config
            file.attrs["model_config"] = json.dumps(changed).encode()
        return tiny / "m.h5"

    return edit

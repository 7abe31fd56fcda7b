"""A small trunk and images for it."""

import numpy as np

from fastcls.backend import import_keras
from fastcls.cache import checked_files

SIZE = (24, 20)


def save_trunk(folder):
    """Save a trunk, RGB uint8 image (B, 24, 20, 3) -> bottleneck (B, 16); returns its path."""
    from fastcls.bases.normalize import normalize

    keras = import_keras()
    keras.utils.set_random_seed(1)
    image = keras.Input((*SIZE, 3), dtype="uint8")
    x = normalize(image, "torch")
    for strides in (2, 1, 2):
        x = keras.layers.Conv2D(16, 3, strides=strides, padding="same", use_bias=False)(x)
        x = keras.layers.Dropout(0.5)(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
    path = folder / "trunk.keras"
    checked_files.keep(path, keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save, of="")
    return path


def some_images(count):
    """(count, 24, 20, 3) uint8: noise on slopes."""
    random = np.random.default_rng(0)
    slopes = random.uniform(-4, 4, (count, 1, 20, 3)) * np.arange(20)[:, None]
    return np.clip(128 + slopes + random.normal(0, 20, (count, *SIZE, 3)), 0, 255).astype(np.uint8)


def keras_rows(trunk_path, images):
    """What Keras computes in float32."""
    model = import_keras().saving.load_model(trunk_path, compile=False)
    return model.predict(images, verbose=0)


def no_images():
    """For engines that learn from none."""
    raise AssertionError("this engine reads no images")

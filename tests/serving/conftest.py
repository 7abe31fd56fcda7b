from pathlib import Path

import numpy as np
import pytest
from serving_support import CLASSES, SIZE

from fastcls.backend import import_keras
from fastcls.data.decoder import pixel_rule
from fastcls.inference.classifier import Classifier
from fastcls.tasks import SEVERAL_LABELS
from fastcls.training.familiarity import Familiarity
from fastcls.training.heads.network import HEAD_PREFIX


def make_model(activation):
    layers = import_keras().layers
    image = import_keras().Input((*SIZE, 3), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    bottleneck = layers.GlobalAveragePooling2D(name="bottleneck")(x)
    head = layers.Dense(3, name=f"{HEAD_PREFIX}logits", use_bias=False)(bottleneck)
    model = import_keras().Model(image, layers.Activation(activation, name=f"{HEAD_PREFIX}end")(head))
    kernel = np.zeros((3, 3, 3, 4), np.float32)
    kernel[1, 1, [0, 1, 2], [0, 1, 2]] = 1
    model.get_layer("conv").set_weights([kernel, np.zeros(4, np.float32)])
    model.get_layer(f"{HEAD_PREFIX}logits").set_weights([np.concatenate([20 * np.eye(3), np.zeros((1, 3))])])
    return model


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Path:
    """The file of a classifier of one label."""
    path = tmp_path_factory.mktemp("one") / "classifier.keras"
    Classifier(make_model("softmax"), CLASSES, pixel_rule(SIZE), {}).save(path)
    return path


@pytest.fixture(scope="session")
def knowing(tmp_path_factory) -> Path:
    """The file of a classifier that knows what its training images are like: of one color."""
    path = tmp_path_factory.mktemp("knowing") / "classifier.keras"
    means = np.float32([[1, 0.6, 0.6, 0], [0.6, 1, 0.6, 0], [0.6, 0.6, 1, 0]])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    axes = np.float32([[0], [0], [0], [1]])
    like = Familiarity(means, axes, np.float32([1]), rest=1.0, limit=0.2, judged=9)
    Classifier(make_model("softmax"), CLASSES, pixel_rule(SIZE), {}, familiarity=like).save(path)
    return path


@pytest.fixture(scope="session")
def tagger(tmp_path_factory) -> Path:
    """The file of a classifier of several labels, all of which reach their thresholds."""
    path = tmp_path_factory.mktemp("several") / "classifier.keras"
    known = {"thresholds": (0.5, 0.5, 0.5), "task": SEVERAL_LABELS}
    Classifier(make_model("sigmoid"), CLASSES, pixel_rule(SIZE), {}, **known).save(path)
    return path

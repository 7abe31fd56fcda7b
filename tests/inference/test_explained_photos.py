"""On real photos the maps find what a class depends on: better than maps that know nothing of it."""

import runpy
from pathlib import Path

import pytest

from fastcls.backend import import_keras
from fastcls.data.decoder import pixel_rule
from fastcls.inference.classifier import Classifier
from fastcls.specs import METHODS

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "weights" / "mobilenet_v2_1.0_224.weights.h5"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the real photos and weights are not here")
def test_maps__beat_random_ones_in_deletion_and_insertion():
    keras = import_keras()
    image = keras.Input((224, 224, 3), dtype="uint8")
    network = keras.applications.MobileNetV2(weights=str(WEIGHTS))  # of 1,000 classes; it stays nested
    model = keras.Model(image, network(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    classifier = Classifier(model, tuple(map(str, range(1000))), pixel_rule((224, 224)), {})
    photos = sorted((SHARED / "flowers-1000" / "daisy").iterdir())[:6]
    measure = runpy.run_path(str(ROOT / "scripts" / "explain_curves.py"))["measure"]
    areas = measure(classifier, photos, steps=8)
    for method in METHODS:
        deletion, insertion = (areas[method] - areas["random"]).mean(axis=0)
        assert deletion < -0.02 and insertion > 0.02, (deletion, insertion)

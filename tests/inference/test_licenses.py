import pytest

from fastcls.inference.licenses import weights_license

KERAS = {"cache": {"base": "mobilenetv2", "weights": "imagenet"}}
OWN = {"cache": {"base": "mobilenetv2", "weights": "mine.weights.h5"}}


@pytest.mark.parametrize(
    ("provenance", "license"),
    [
        (KERAS, "Apache-2.0"),
        (OWN, "unknown"),
        ({"cache": {"base": "resnet50", "weights": "random"}}, "none"),
        ({"cache": {"base": "me.keras", "weights": "own"}}, "unknown"),
        ({"start": {"name": "ResNet50", "weights": None}}, "MIT"),  # Keras downloads them
        ({"start": {"name": "resnet18", "weights": None}}, "unknown"),  # of which Keras has none
        ({"start": KERAS}, "Apache-2.0"),  # a run that was trained further
        ({"start": {"start": OWN}}, "unknown"),
        ({"start": {"cache": {}, "weights_license": "MIT"}}, "MIT"),
        ({}, "unknown"),
    ],
    ids=str,
)
def test_weights_license__is_that_of_the_base(provenance, license):
    assert weights_license(provenance) == license

"""A tiny classifier, exported once to each format."""

import exports_support as support
import pytest

from fastcls.exporting.runtimes import RUNTIMES


@pytest.fixture(scope="session")
def model():
    return support.tiny_model()


@pytest.fixture(scope="session")
def exports(tmp_path_factory, model):
    """Format -> the model exported to it."""
    root = tmp_path_factory.mktemp("exports")
    return {name: support.write_export(model, name, root / f"{name}-float32") for name in RUNTIMES}

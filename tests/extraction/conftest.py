"""Where images and caches of a test are."""

import pytest

from fastcls.extraction import reading


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def young_files_trusted(monkeypatch):
    """This process relies on the state of files that were written just now."""
    monkeypatch.setattr(reading, "_SETTLED_NS", 0)

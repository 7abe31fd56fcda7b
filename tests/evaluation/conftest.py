import pytest


@pytest.fixture
def no_pictures():
    """Here they are painted."""

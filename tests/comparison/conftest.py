import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))  # caches that are written by hand


@pytest.fixture
def no_pictures():
    """Here they are painted."""

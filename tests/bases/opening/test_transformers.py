"""Opened bases against the transformers package, where it is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "verify_transformers.py"
MISSING = [name for name in ("keras_hub", "torch", "transformers") if not importlib.util.find_spec(name)]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_folders_of_transformers__give_the_same_tokens():
    # By themselves: PyTorch that is imported after TensorFlow can end a process.
    ended = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=250)
    lines = ended.stdout.splitlines()
    rows = [line for line in lines if not line.startswith(("family", "--head text"))]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(lines) == 26 and [row.split()[-1] for row in rows] == ["equal"] * (19 + 5)

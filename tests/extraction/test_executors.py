import os

import pytest

from fastcls.extraction.executors import _environment


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [
        (None, 2, ["0", "1", "0"]),
        ("", 2, ["0", "1", "0"]),
        ("3,5", 2, ["3", "5", "3"]),
        ("GPU-8f,GPU-2a,GPU-77", 3, ["GPU-8f", "GPU-2a", "GPU-77"]),
        ("7", 1, ["7", "7", "7"]),
    ],
)
def test_workers__have_a_gpu_each_of_those_that_may_be_used(monkeypatch, visible, gpus, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = [_environment(place, gpus)["CUDA_VISIBLE_DEVICES"] for place in range(3)]
    assert found == expected


@pytest.mark.parametrize("visible", [None, "0,1"])
def test_workers__without_gpus_keep_the_environment(monkeypatch, visible):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _environment(1, 0).get("CUDA_VISIBLE_DEVICES") == os.environ.get("CUDA_VISIBLE_DEVICES")

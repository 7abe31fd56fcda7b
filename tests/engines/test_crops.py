from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fastcls.engines.crops import crops


@pytest.mark.parametrize("size", [(224, 224), (16, 33), (600, 480)])
def test_crops_have_the_size_that_is_asked_for_and_differ(size):
    images = crops(size, 12)
    assert images.shape == (12, *size, 3) and images.dtype == np.uint8
    assert len({image.tobytes() for image in images}) == 12
    assert (
        images.std(axis=(1, 2)).max(axis=1) > 2
    ).all()  # no plain surface, on which a trunk computes nothing


def test_they_are_the_same_whenever_they_are_made():
    assert (crops((40, 40))[:7] == crops((40, 40), 7)).all()


def test_they_show_the_photographs_in_color():
    red, _, blue = crops((64, 64), 40)[1::2].mean(axis=(0, 1, 2))
    assert red > blue + 20  # an orange flower


def test_they_need_no_import_of_scikit_learn():
    command = "import sys, fastcls.engines.crops as c; c.crops((8, 8)); print('sklearn' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"

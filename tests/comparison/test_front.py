"""The picture of candidates: names apart, and all of them there."""

from itertools import pairwise

import cv2
import pytest

from fastcls.comparison.pictures import _LINE, Point, _spread, draw_front
from fastcls.evaluation.paired import Estimate


@pytest.mark.parametrize("heights", [[0.5] * 12, [1.0, 0.99, 0.1, 0.05, 0.0], [0.02] * 5, [0.7], [0.9] * 40])
def test_spread__names_keep_their_order_and_a_distance(heights):
    found = _spread(heights)
    line = min(_LINE, 1 / max(1, len(heights) - 1))
    assert all(before - after >= line - 1e-9 for before, after in pairwise(found))
    assert min(found) >= -1e-9 and max(found) <= 1 + 1e-9


@pytest.mark.parametrize("count", [1, 4, 12])
def test_draw_front__draws_any_number_of_candidates(count, tmp_path):
    points = [
        Point(f"base_{place} $x$ 花", 1e8 * (1 + place % 3), Estimate(0.9, 0.8, 0.95), is_efficient=not place)
        for place in range(count)
    ]
    draw_front(points, "accuracy", tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "a.png")).std() > 5

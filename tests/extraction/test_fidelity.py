"""How near an engine comes to Keras in float32, and how near is near enough."""

import dataclasses

import cv2
import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from fastcls.data.decoder import Decoder, pixel_rule
from fastcls.extraction.fidelity import (
    BOUNDS,
    Fidelity,
    InfidelityError,
    compare,
    evenly_spaced,
    forward,
    some_images,
)


def some_rows(count, noise):
    random = np.random.default_rng(0)
    reference = random.normal(size=(count, 2, 3, 4)).astype(np.float32)
    return reference + noise * random.normal(size=reference.shape).astype(np.float32), reference


def figures(found):
    """Those that any number of rows has."""
    return dataclasses.astuple(found)[:5]


def test_compare__equals_a_computation_by_hand():
    rows, reference = some_rows(5, noise=0.1)
    flat = rows.reshape(5, -1), reference.reshape(5, -1)
    errors = [
        np.sqrt(((ours - theirs) ** 2).sum() / (theirs**2).sum()) for ours, theirs in zip(*flat, strict=True)
    ]
    cosines = np.diag(cosine_similarity(*flat))
    expected = (5, np.median(errors), max(errors), np.median(cosines), min(cosines))
    assert figures(compare(rows, reference)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_compare__does_not_depend_on_scale(scale):
    rows, reference = some_rows(5, noise=0.1)
    expected = figures(compare(rows, reference))
    found = compare(rows * np.float32(scale), reference * np.float32(scale))
    assert figures(found) == pytest.approx(expected, rel=1e-5)


def test_compare__an_image_that_moves_nothing():
    rows, reference = some_rows(3, noise=0)
    rows[1] = reference[1] = 0
    assert figures(compare(rows, reference)) == pytest.approx((3, 0, 0, 1, 1))
    rows[1] = 1e-3
    assert compare(rows, reference).smallest_cosine == 0


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_forward__does_not_depend_on_batches(count):
    images = np.random.default_rng(1).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)
    sizes = []

    def run(batch):
        sizes.append(len(batch))
        return batch.mean(axis=(1, 2)) * 1.25

    np.testing.assert_array_equal(forward(run, images), images.mean(axis=(1, 2)) * 1.25)
    assert sum(sizes) == count and max(sizes) <= 8


@pytest.mark.parametrize("precision", BOUNDS)
def test_require__the_bounds_of_a_precision(precision):
    error, cosine, share = BOUNDS[precision]
    for neighbors in (None, share, 1):
        Fidelity(9, error, 99, cosine, cosine, neighbors).require("swift", precision)
    for bad in (
        Fidelity(9, error * 1.01, error, 1, cosine),
        Fidelity(9, error, error, 1, cosine - 0.01),
        Fidelity(99, error, error, 1, 1, share - 0.01),
    ):
        with pytest.raises(InfidelityError, match=f"swift in {precision} is too far from Keras in float32"):
            bad.require("swift", precision)


def test_neighbors__of_rounded_rows_by_hand():
    """Two pairs of neighbors; one row turns to a stranger."""
    random = np.random.default_rng(0)
    reference = random.normal(size=(20, 50))
    reference[1::2] = reference[::2] + 0.2 * random.normal(size=(10, 50))
    rows = reference.copy()
    assert compare(rows, reference).neighbors == 1
    rows[4] = reference[7] + 0.1
    assert compare(rows, reference).neighbors == pytest.approx(1 - 3 / 20)  # it, its twin, and the stranger's
    assert compare(rows[:15], reference[:15]).neighbors is None  # too few


def test_neighbors__images_that_are_alike_are_as_near():
    random = np.random.default_rng(0)
    reference = 1 + 0.02 * random.normal(size=(40, 50))
    rows = reference + 0.02 * random.normal(size=reference.shape)
    assert compare(rows, reference).neighbors == 1
    assert compare(rows - 1, reference - 1).neighbors < 0.9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("precision", BOUNDS)
def test_require__one_row_that_is_no_number_is_refused(precision, value):
    rows, reference = some_rows(9, noise=0)
    rows[4, 0, 0, 0] = value
    with pytest.raises(InfidelityError):
        compare(rows, reference).require("swift", precision)


@pytest.mark.parametrize("total, count, places", [(3, 8, [0, 1, 2]), (8, 4, [0, 2, 4, 6]), (0, 4, [])])
def test_evenly_spaced(total, count, places):
    assert evenly_spaced(total, count) == places


def test_some_images__are_readable_and_of_all_parts(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(14)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((9, 9, 3), number, np.uint8))
    paths[7].write_bytes(b"")
    decoder = Decoder(pixel_rule((4, 6)))
    images = some_images(paths, decoder, 8)
    assert images.shape == (7, 4, 6, 3) and images.dtype == np.uint8
    assert images[:, 0, 0, 0].tolist() == [0, 1, 3, 5, 8, 10, 12]
    assert some_images(paths[7:8], decoder, 8).shape == (0, 4, 6, 3)

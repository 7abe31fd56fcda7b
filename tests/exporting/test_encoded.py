"""Encoded images inside of a graph: the pixels of the decoder."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.data.decoder import Decoder, decode, pixel_rule
from fastcls.exporting.encoded import MAX_LEVEL, MEAN_LEVEL, is_taken, pixels_of

SHAPES = [(16, 20), (40, 40), (41, 300), (7, 5), (160, 170), (333, 401), (80, 80)]


def photo(shape, seed=0):
    """Smooth colors with noise, as in a photo."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    smooth = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC).astype(int)
    noise = np.random.default_rng(seed).integers(-12, 13, (*shape, 3))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def encoded(shape, suffix, *options):
    return cv2.imencode(suffix, photo(shape), list(options))[1].tobytes()


IMAGES = [
    *(encoded(shape, suffix) for shape in SHAPES for suffix in (".jpg", ".png")),
    encoded((90, 70), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    cv2.imencode(".jpg", photo((90, 70))[..., 0])[1].tobytes(),
    cv2.imencode(".png", photo((90, 70))[..., 0])[1].tobytes(),
    cv2.imencode(".png", np.dstack([photo((90, 70)), photo((90, 70))[..., 0]]))[1].tobytes(),  # alpha
    cv2.imencode(".png", photo((90, 70)).astype(np.uint16) * 257)[1].tobytes(),
]


@pytest.mark.parametrize(
    "how",
    [{}, {"full_decode": True}, {"resize": "crop"}, {"resize": "crop", "crop": Fraction(7, 8)}],
    ids=str,
)
@pytest.mark.parametrize("size", [(20, 20), (33, 18)], ids=str)
def test_pixels_of__makes_the_pixels_of_the_decoder(size, how):
    import_keras()
    import tensorflow as tf

    rule = pixel_rule(size, **how)
    found = np.asarray(tf.function(pixels_of(rule))(tf.constant(IMAGES))).astype(int)
    expected = np.stack([Decoder(rule).decode(data) for data in IMAGES])
    levels = np.abs(found - expected)
    assert levels.max() <= MAX_LEVEL
    assert levels.mean() <= MEAN_LEVEL
    assert all(map(is_taken, IMAGES))


def test_is_taken__knows_what_the_graph_lacks():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    plain = encoded((30, 40), ".jpg")
    turned = plain[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + plain[2:]
    assert decode(turned, (20, 20)).tolist() != decode(plain, (20, 20)).tolist()
    assert [is_taken(data) for data in (plain, turned, encoded((30, 40), ".webp"))] == [True, False, False]

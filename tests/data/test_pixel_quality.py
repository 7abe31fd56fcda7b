"""What is measured of an image, against NumPy on the same pixels and the sizes that files were made with."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcls.data.decoder import Decoder, pixel_rule
from fastcls.data.pixel_quality import COLUMNS, measure


def reference(pixels):
    """Mean, deviation, darkest, brightest and detail, in float64."""
    gray = np.rint(pixels.astype(np.float64) @ [0.299, 0.587, 0.114])
    height, width = (length // 16 for length in gray.shape)
    blocks = gray
    if height and width:
        top, left = (
            (length - 16 * part) // 2 for length, part in zip(gray.shape, (height, width), strict=True)
        )
        middle = gray[top : top + 16 * height, left : left + 16 * width]
        blocks = middle.reshape(16, height, 16, width).mean(axis=(1, 3))
    low, high = np.quantile(blocks, (0.05, 0.99), method="inverted_cdf")
    energy = 0.0
    for axis in (0, 1):
        one, two = (
            (gray.take(range(step, gray.shape[axis]), axis) - gray.take(range(gray.shape[axis] - step), axis))
            for step in (1, 2)
        )
        energy += 4 * (one**2).mean() - (two**2).mean() if min(gray.shape) > 2 else 0
    return gray.mean(), gray.std(), low, high, np.sqrt(max(energy, 0))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height, width):
    return cv2.resize(noise(5, 7), (width, height), interpolation=cv2.INTER_CUBIC)


IMAGES = {
    "noise": noise(224, 224),
    "smooth": smooth(224, 224),
    "no multiple of 16": smooth(61, 299),
    "small": noise(8, 8),
    "narrow": noise(3, 40),
    "two rows": noise(2, 64),
    "one pixel": noise(1, 1),
    "black": np.zeros((32, 32, 3), np.uint8),
    "white": np.full((33, 20, 3), 255, np.uint8),
    "stripes": np.tile(np.uint8([0, 255]).repeat(48).reshape(2, 16, 3), (8, 1, 1)),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_measure__is_what_numpy_says(image):
    found = measure(image, (7, 9))
    assert found.dtype == np.float32 and found.shape == (len(COLUMNS),)
    assert found[:2].tolist() == [7, 9]
    # OpenCV's gray and its means of blocks are rounded to whole levels.
    np.testing.assert_allclose(found[2:], reference(image), atol=0.6, rtol=0.002)


def test_detail__falls_with_blur_and_darkest_and_brightest_follow_the_light():
    image = smooth(224, 224) // 2 + noise(224, 224) // 2
    blurred = [measure(cv2.GaussianBlur(image, (0, 0), sigma), (1, 1))[6] for sigma in (0.5, 1, 2, 4)]
    assert blurred == sorted(blurred, reverse=True) and blurred[-1] < 0.05 * measure(image, (1, 1))[6]
    dark, bright = (measure(changed, (1, 1)) for changed in (image // 4, 200 + image // 5))
    assert dark[5] < 64 and bright[4] > 200


def file_of(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


COLOR = noise(30, 50)
FILES = {
    "gray PNG": (file_of(COLOR[..., 0], "PNG"), (30, 50)),
    "RGBA": (file_of(np.dstack([COLOR, COLOR[..., :1]]), "PNG"), (30, 50)),
    "one pixel": (file_of(COLOR[:1, :1], "PNG"), (1, 1)),
    "16 bits": (cv2.imencode(".png", COLOR.astype(np.uint16) * 257)[1].tobytes(), (30, 50)),
    "palette": (file_of(Image.fromarray(COLOR).convert("P"), "GIF"), (30, 50)),
    "upright JPEG": (file_of(smooth(30, 50), "JPEG"), (30, 50)),
    "turned JPEG": (file_of(smooth(30, 50), "JPEG", exif=turned(6)), (50, 30)),
    "turned WebP": (file_of(smooth(30, 50), "WEBP", exif=turned(8)), (50, 30)),
    "large JPEG": (file_of(smooth(701, 403), "JPEG"), (701, 403)),
    "large turned JPEG": (file_of(smooth(701, 403), "JPEG", exif=turned(6)), (403, 701)),
    "large mirrored JPEG": (file_of(smooth(701, 403), "JPEG", exif=turned(2)), (701, 403)),
    "large square JPEG": (file_of(smooth(640, 640), "JPEG", exif=turned(5)), (640, 640)),
}


@pytest.mark.parametrize(("data", "size"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("wanted", [(16, 16), (24, 40), (320, 320)], ids=str)
def test_original_size__is_that_of_the_upright_picture_in_the_file(data, size, wanted):
    for full in (False, True):
        decoded = Decoder(pixel_rule(wanted, full_decode=full)).decode_sized(data)
        assert decoded.original == size
        assert decoded.pixels.shape == (*wanted, 3)
        np.testing.assert_array_equal(
            decoded.pixels, Decoder(pixel_rule(wanted, full_decode=full)).decode(data)
        )

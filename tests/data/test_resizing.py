"""Images that are cropped to the size: against Pillow, exact fractions and what evaluation of models does."""

import io
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcls.data.decoder import Decoder, OversizedImage, pixel_rule
from fastcls.data.resizing import Resizing
from fastcls.errors import OptionError

CROPS = [Fraction(1), Fraction(7, 8), Fraction(2, 3)]
SIDES = [(480, 640), (641, 333), (31, 77), (7, 5), (1, 900), (900, 1), (224, 224), (225, 1203), (1, 1)]


def smooth(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def decode(data, size, crop, **more):
    return Decoder(pixel_rule(size, resize="crop", crop=crop, **more)).decode(data)


@pytest.mark.parametrize("crop", CROPS, ids=str)
@pytest.mark.parametrize("size", [(24, 24), (40, 17)], ids=str)
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_decode__crop_is_pillows_crop_of_the_middle_and_then_a_resize(sides, size, crop):
    image = smooth(*sides)
    # The largest rectangle of the size's shape that the image holds, in floats, within a pixel.
    largest = min(sides[0] / size[0], sides[1] / size[1]) * float(crop)
    box = Resizing(crop).window(sides, size)
    for seen, whole, start, side in zip(
        (box.height, box.width), sides, (box.top, box.left), size, strict=True
    ):
        assert seen == 1 or abs(seen - largest * side) <= 0.5 + 1e-9
        assert start >= 0 and start + seen <= whole and abs((whole - seen) / 2 - start) < 1
    cropped = Image.fromarray(image).crop((box.left, box.top, box.left + box.width, box.top + box.height))
    expected = Decoder(pixel_rule(size)).decode(png(np.asarray(cropped)))
    np.testing.assert_array_equal(decode(png(image), size, crop), expected)


@pytest.mark.parametrize("sides", [(480, 640), (641, 333), (300, 301), (180, 264)], ids=str)
def test_decode__crop_is_near_a_resize_to_256_and_a_crop_of_224_by_pillow(sides):
    image = smooth(*sides)
    scale = 256 / min(sides)
    whole = [max(256, int(side * scale)) for side in sides]
    resized = Image.fromarray(image).resize(whole[::-1], Image.Resampling.BILINEAR)
    top, left = ((side - 224) // 2 for side in whole)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
    distances = np.abs(decode(png(image), (224, 224), Fraction(224, 256)) - expected)
    assert distances.mean() < 1.5  # half a pixel of the source, on colors that change slowly
    stretched = np.abs(Decoder(pixel_rule((224, 224))).decode(png(image)) - expected)
    assert stretched.mean() > 4 * distances.mean()


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_decode__a_jpeg_is_scaled_down_as_far_as_the_crop_allows(crop):
    least = Resizing(crop).wanted((50, 50))[0]
    for side, factor in [(2 * least - 1, 1), (2 * least, 2), (4 * least, 4), (8 * least, 8)]:
        data = cv2.imencode(".jpg", smooth(side, side + 90))[1].tobytes()
        flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
        flag = flags.get(factor, cv2.IMREAD_REDUCED_COLOR_8)
        scaled = cv2.imdecode(np.frombuffer(data, np.uint8), flag)[..., ::-1]
        box = Resizing(crop).window(scaled.shape[:2], (50, 50))
        assert min(box.height, box.width) >= min(50, round(side * crop))
        decoder = Decoder(pixel_rule((50, 50), resize="crop", crop=crop))
        np.testing.assert_array_equal(decoder.decode(data), decoder.resize(scaled))
        full = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(decode(data, (50, 50), crop, full_decode=True), decoder.resize(full))


def test_decode__crop_follows_the_upright_picture():
    image = smooth(90, 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", exif=exif.tobytes())
    turned = np.rot90(image, -1)
    np.testing.assert_array_equal(decode(buffer.getvalue(), (30, 20), 1), decode(png(turned), (30, 20), 1))


def test_crop__takes_no_more_memory_than_what_it_sees():
    strip = png(np.zeros((2, 20_000, 3), np.uint8))
    for resize, fits in (("crop", True), ("stretch", False)):
        decoder = Decoder(pixel_rule((200, 200), resize=resize), max_pixels=1_000_000)
        if fits:
            assert decoder.decode(strip).shape == (200, 200, 3)
        else:
            with pytest.raises(OversizedImage, match="while resizing"):
                decoder.decode(strip)


@pytest.mark.parametrize("name", ["crop-9/7", "crop-0", "crop-2/4", "crop-1/0", "crop-07/8", "pad-1", ""])
def test_decoder__refuses_rules_that_it_does_not_have(name):
    rule = pixel_rule((8, 8), resize="crop")
    assert Decoder(rule).resizing == Resizing(Fraction(1))
    with pytest.raises(OptionError, match="Unknown pixel rule"):
        Decoder(type(rule)((8, 8), rule.decode, f"{name}-bilinear-mean/1"))

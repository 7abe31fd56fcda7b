"""The rule by which pixels are made: obeyed, bounded, and the one that the README tells."""

import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcls.data import decoder
from fastcls.data.decoder import Decoder, OversizedImage, decode, pixel_rule
from fastcls.errors import OptionError

PROJECT = Path(decoder.__file__).parents[2]
FLOWERS = PROJECT.parent / "shared" / "data" / "flowers-1000"


def smooth_image(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format, **options)
    return buffer.getvalue()


def distance(image, other):
    return float(np.abs(image.astype(int) - other.astype(int)).mean())


def test_decode__full_decode_scales_no_jpeg_down():
    data = encode(smooth_image(480, 640), "JPEG")
    pixels = encode(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), "PNG")
    shown = decode(data, (60, 60), full_decode=True)
    np.testing.assert_array_equal(shown, decode(pixels, (60, 60)))
    assert not np.array_equal(shown, decode(data, (60, 60)))


def test_decoder__obeys_its_rule_and_refuses_others():
    data = encode(smooth_image(480, 640), "JPEG")
    for full in (False, True):
        rule = pixel_rule((60, 60), full_decode=full)
        np.testing.assert_array_equal(Decoder(rule).decode(data), decode(data, (60, 60), full_decode=full))
        for name in ("decode", "resize"):
            with pytest.raises(OptionError, match=r"Unknown pixel rule: .*crop"):
                Decoder(replace(rule, **{name: "crop/1"}))


LARGE = smooth_image(1200, 1000)


# What is encoded is encoded where it is tested: each process that runs tests imports all of them.
ENCODED = {
    "png": lambda: encode(LARGE, "PNG"),
    "bmp": lambda: encode(LARGE, "BMP"),
    "webp": lambda: encode(LARGE, "WEBP", quality=1),
    "gif": lambda: encode(LARGE, "GIF"),
    "tiff": lambda: encode(LARGE, "TIFF"),
    "tiff-alpha": lambda: encode(np.dstack([LARGE, LARGE[..., 0]]), "TIFF"),
    "avif": lambda: encode(LARGE, "AVIF", speed=10, quality=1),
    "jpeg2000": lambda: encode(LARGE, "JPEG2000"),
    "pnm": lambda: encode(LARGE, "PPM"),
    "jpeg": lambda: encode(LARGE, "JPEG", quality=1),
}


@pytest.mark.parametrize("name", ENCODED)
def test_decode__refuses_too_many_pixels_by_the_header_alone(name, monkeypatch):
    data = ENCODED[name]()
    assert decode(data, (700, 600), max_pixels=1_200_000).shape == (700, 600, 3)
    monkeypatch.setattr(cv2, "imdecode", None)
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(OversizedImage, match=r"1200x1000 \(1,200,000\) pixels .* 1,199,999\. .*--max-pixels"):
        decode(data, (700, 600), max_pixels=1_199_999)


def test_decode__a_jpeg_counts_as_it_is_decoded():
    whole = {"plain": {}, "in scans": {"progressive": True}}
    data = {name: encode(smooth_image(1600, 1600), "JPEG", **how) for name, how in whole.items()}
    assert decode(data["plain"], (200, 200), max_pixels=40_000).shape == (200, 200, 3)
    for options in ({"full_decode": True}, {}):
        with pytest.raises(OversizedImage):  # the coefficients of all scans are held, at any scale
            decode(data["in scans"], (200, 200), max_pixels=40_000, **options)
    with pytest.raises(OversizedImage, match=r"1600x1600 \(2,560,000\) pixels"):
        decode(data["plain"], (200, 200), max_pixels=2_559_999, full_decode=True)
    assert decode(data["in scans"], (200, 200), max_pixels=1_280_000).shape == (200, 200, 3)


def test_decode__refuses_what_grows_while_it_is_resized():
    strip = encode(np.zeros((2, 20_000, 3), np.uint8), "PNG")
    with pytest.raises(OversizedImage, match=r"2x20000 \(40,000\) pixels \(100,000,000 while resizing\)"):
        decode(strip, (200, 200), max_pixels=10_000_000)


def test_affordable_pixels__divides_the_memory_among_threads(monkeypatch):
    monkeypatch.setattr(decoder, "available_memory", lambda: 24_000_000)
    assert [decoder.affordable_pixels(threads) for threads in (0, 1, 4)] == [1_000_000, 1_000_000, 250_000]


# The recipe that the README gives ----------------------------------------------------------------------


@pytest.fixture
def pixels_by_readme(monkeypatch, tmp_path):
    """Runs the README's code block "without fastcls" and returns the pixels that the model gets."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    (block,) = [part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "cv2" in part]
    code = [line for line in block.splitlines() if line and not line.startswith(("import", "model ="))]
    assert len(code) == 5
    model = SimpleNamespace(predict=lambda images: images)
    saving = SimpleNamespace(load_model=lambda path: model)
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(saving=saving))
    monkeypatch.chdir(tmp_path)

    def run(data):
        Path("rose.jpg").write_bytes(data)
        names = {}
        exec(block, names)
        return names["probabilities"][0]

    return run


SIDES = [(500, 375), (240, 320), (147, 240), (90, 60), (447, 900), (224, 224), (448, 400), (1000, 230)]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_readme__its_recipe_makes_these_pixels(pixels_by_readme, sides, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(smooth_image(*sides), "JPEG", exif=exif.tobytes())
    np.testing.assert_array_equal(pixels_by_readme(data), decode(data, (224, 224)))


@pytest.mark.parametrize("sides", [(448, 448), (900, 1200), (2000, 1900)])
def test_readme__its_recipe_differs_little_from_reduced_scales_and_not_from_full_decoding(
    pixels_by_readme, sides
):
    data = encode(smooth_image(*sides), "JPEG")
    shown = pixels_by_readme(data)
    np.testing.assert_array_equal(shown, decode(data, (224, 224), full_decode=True))
    assert 0 < distance(shown, decode(data, (224, 224))) < 3


@pytest.mark.skipif(not FLOWERS.exists(), reason="the photos are not here")
def test_readme__its_recipe_makes_the_pixels_of_photos(pixels_by_readme):
    photos = sorted(FLOWERS.rglob("*.jpg"))[::10]
    assert len(photos) > 50
    for photo in photos:
        data = photo.read_bytes()
        np.testing.assert_array_equal(pixels_by_readme(data), decode(data, (224, 224), full_decode=True))


@pytest.mark.skipif(not FLOWERS.exists(), reason="the photos are not here")
def test_decode__reduced_scales_move_the_pixels_of_photos_little():
    data = [photo.read_bytes() for photo in sorted(FLOWERS.rglob("*.jpg"))[::10]]
    pairs = [(decode(each, (96, 96)), decode(each, (96, 96), full_decode=True)) for each in data]
    moved = [distance(*pair) for pair in pairs]
    assert 0 < np.mean(moved) < 3 and max(moved) < 10

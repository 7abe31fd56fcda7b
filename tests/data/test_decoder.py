import io
import math
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcls.data import decoder
from fastcls.data.decoder import UnreadableImage, decode, read_image

SIZE = (120, 160)


def smooth_image(height=120, width=160, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(image, file_format, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def animation(file_format):
    frames = [Image.fromarray(np.roll(smooth_image(), 40 * index, axis=1)) for index in range(3)]
    return encode(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100)


def opencv(data, flags=cv2.IMREAD_COLOR_BGR):
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)[..., ::-1]


def averaged(image, size):
    """Bilinear to a whole multiple of the size, which leaves out no pixel; then the means, as floats."""
    times = max(1, math.ceil(max(np.divide(image.shape[:2], size)) / 2))
    height, width = size
    larger = cv2.resize(image, (times * width, times * height), interpolation=cv2.INTER_LINEAR)
    return larger.reshape(height, times, width, times, 3).mean(axis=(1, 3))


def assert_rounded(image, exact):
    assert image.dtype == np.uint8 and np.abs(image - exact).max() <= 0.5


def distance(image, other):
    return float(np.abs(image.astype(int) - other.astype(int)).mean())


IMAGE = smooth_image()
REDUCED = {
    1: cv2.IMREAD_COLOR_BGR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
FILES = {
    "jpeg": encode(IMAGE, "JPEG"),
    "jpeg_progressive": encode(IMAGE, "JPEG", progressive=True),
    "jpeg_restarts": encode(IMAGE, "JPEG", restart_marker_rows=1),
    "jpeg_gray": encode(IMAGE[..., 0], "JPEG"),
    "png": encode(IMAGE, "PNG"),
    "bmp": encode(IMAGE, "BMP"),
    "webp": encode(IMAGE, "WEBP"),
    "webp_lossless": encode(IMAGE, "WEBP", lossless=True),
    "webp_animated": animation("WEBP"),
    "tiff": encode(IMAGE, "TIFF"),
    "tiff_lzw": encode(IMAGE, "TIFF", compression="tiff_lzw"),
    "gif": encode(IMAGE, "GIF"),
    "gif_animated": animation("GIF"),
}


@pytest.mark.parametrize("name", FILES)
def test_decode__equals_opencv_decode_and_resize(name):
    for size in [SIZE, (60, 100), (119, 160), (31, 17)]:
        image = decode(FILES[name], size)
        assert image.shape == (*size, 3) and image.flags.c_contiguous
        factor = 2 if "jpeg" in name and max(size) <= 60 else 1
        assert_rounded(image, averaged(opencv(FILES[name], REDUCED[factor]), size))


@pytest.mark.parametrize("name", ["png", "bmp", "webp_lossless", "tiff", "tiff_lzw"])
def test_decode__returns_the_rgb_that_was_stored(name):
    np.testing.assert_array_equal(decode(FILES[name], SIZE), IMAGE)


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"jpeg_gray"}))
def test_decode__fails_when_channels_are_swapped(name):
    image = decode(FILES[name], SIZE)
    assert distance(image, IMAGE) < 12 < 40 < distance(image[..., ::-1], IMAGE)


@pytest.mark.parametrize("size", [(240, 320), (240, 80), (60, 320), (121, 160)])
def test_decode__enlarges_linearly(size):
    expected = cv2.resize(IMAGE, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(decode(FILES["png"], size), expected)


@pytest.mark.parametrize("size", [(60, 80), (47, 61), (40, 20), (24, 32), (13, 17), (5, 160)])
def test_decode__shrinks_like_a_mean_over_areas(size):
    image = smooth_image(seed=1)
    area = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    assert distance(decode(encode(image, "PNG"), size), area) < 2


@pytest.mark.parametrize("side", [239, 170, 124, 90, 61, 40])
def test_decode__shrinks_noise_to_gray(side):
    noise = np.random.default_rng(0).integers(0, 256, (480, 480, 3), dtype=np.uint8)
    left, area, linear = (
        image.std()
        for image in (
            decode(encode(noise, "PNG"), (side, side)),
            cv2.resize(noise, (side, side), interpolation=cv2.INTER_AREA),
            cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR),
        )
    )
    assert left < 1.5 * area < linear


def test_decode__size_is_height_width():
    assert decode(FILES["png"], (10, 20)).shape == (10, 20, 3)


# EXIF orientation ------------------------------------------------------------------------------------

UPRIGHT = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}


def exif(orientation):
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    return b"Exif\0\0" + tiff


def with_exif(jpeg, orientation):
    payload = exif(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_decode__applies_exif_orientation(orientation):
    expected = UPRIGHT[orientation](opencv(FILES["jpeg"]))
    image = decode(with_exif(FILES["jpeg"], orientation), expected.shape[:2])
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_decode__applies_exif_orientation_when_scaling_down(orientation):
    plain = encode(smooth_image(480, 480), "JPEG")
    expected = UPRIGHT[orientation](opencv(plain, REDUCED[4]))
    np.testing.assert_array_equal(decode(with_exif(plain, orientation), (120, 120)), expected)


# Kinds of pixels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_decode__gray_becomes_three_channels(file_format):
    image = decode(encode(IMAGE[..., 0], file_format), SIZE)
    np.testing.assert_array_equal(image, np.repeat(IMAGE[..., :1], 3, axis=2))


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "WEBP", "lossless": True, "exact": True}])
def test_decode__drops_alpha_and_keeps_color(options):
    alpha = np.tile(np.linspace(0, 255, 160).astype(np.uint8), (120, 1))
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([IMAGE, alpha])).save(buffer, **options)
    np.testing.assert_array_equal(decode(buffer.getvalue(), SIZE), IMAGE)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_decode__16_bits_become_8(suffix):
    deep = IMAGE.astype(np.uint16) * 257
    for stored, expected in [(deep[..., ::-1], IMAGE), (deep[..., 0], np.repeat(IMAGE[..., :1], 3, axis=2))]:
        data = cv2.imencode(suffix, stored)[1].tobytes()
        np.testing.assert_array_equal(decode(data, SIZE), expected)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_decode__cmyk(file_format):
    data = encode(Image.fromarray(IMAGE).convert("CMYK"), file_format)
    assert distance(decode(data, SIZE), IMAGE) < 5
    assert distance(decode(data, (30, 40)), cv2.resize(IMAGE, (40, 30), interpolation=cv2.INTER_AREA)) < 5


def test_decode__palette_png():
    image = Image.fromarray(IMAGE).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(decode(encode(image, "PNG"), SIZE), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("name", ["gif_animated", "webp_animated"])
def test_decode__animation_gives_its_first_frame(name):
    image = decode(FILES[name], SIZE)
    assert distance(image, IMAGE) < 12
    assert distance(image, np.roll(IMAGE, 40, axis=1)) > 40


# Large JPEGs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "size", "factor"),
    [
        ((480, 640), (241, 241), 1),
        ((480, 640), (240, 240), 2),
        ((480, 640), (100, 240), 2),
        ((640, 480), (240, 100), 2),
        ((480, 640), (120, 120), 4),
        ((480, 640), (61, 60), 4),
        ((480, 640), (60, 60), 8),
        ((480, 640), (10, 10), 8),
        ((479, 640), (60, 60), 4),
    ],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_decode__scales_large_jpegs_down(stored, size, factor, progressive):
    data = encode(smooth_image(*stored), "JPEG", progressive=progressive, quality=95)
    reduced = opencv(data, REDUCED[factor])
    assert reduced.shape[0] >= size[0] and reduced.shape[1] >= size[1]
    image = decode(data, size)
    assert_rounded(image, averaged(reduced, size))
    assert distance(image, averaged(opencv(data), size)) < 3


def test_decode__other_formats_are_not_scaled_down():
    image = smooth_image(480, 640)
    assert_rounded(decode(encode(image, "PNG"), (50, 50)), averaged(image, (50, 50)))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_decode__100_megapixels(suffix):
    data = cv2.imencode(suffix, np.full((10_000, 10_000), 77, np.uint8))[1].tobytes()
    np.testing.assert_array_equal(decode(data, (224, 224)), np.full((224, 224, 3), 77, np.uint8))


# What cannot be read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_decode__truncated_is_never_a_half_picture(name):
    data = FILES[name]
    lengths = {int(len(data) * fraction) for fraction in (0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)}
    for length in lengths | {len(data) - missing for missing in (1, 2, 3, 4, 8, 12, 20)}:
        for size in [SIZE, (30, 40)]:
            with pytest.raises(UnreadableImage, match="truncated"):
                decode(data[:length], size)


def test_decode__truncated_anywhere_in_a_jpeg_header():
    for length in range(3, FILES["jpeg"].index(b"\xff\xda") + 20):
        with pytest.raises(UnreadableImage, match="truncated JPEG"):
            decode(FILES["jpeg"][:length], SIZE)


@pytest.mark.parametrize("missing", [1, 2, 3, 500])
def test_decode__truncated_jpeg_with_a_whole_thumbnail(missing):
    # Of a large gray JPEG that lacks its end marker OpenCV returns a picture without complaint.
    plain = encode(smooth_image(800, 1200)[..., 0], "JPEG")
    thumbnail = encode(smooth_image(30, 40), "JPEG")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + plain[2:]
    np.testing.assert_array_equal(decode(data, (800, 1200)), opencv(plain))
    for size in [(800, 1200), (100, 100)]:
        with pytest.raises(UnreadableImage, match="truncated JPEG: no end-of-image marker"):
            decode(data[:-missing], size)


def test_decode__jpeg_with_fill_bytes_and_bytes_after_its_end():
    plain = encode(smooth_image(480, 640), "JPEG")
    data = plain[:2] + b"\xff\xff" + plain[2:] + b"more"
    for size in [(480, 640), (120, 120)]:
        np.testing.assert_array_equal(decode(data, size), decode(plain, size))


@pytest.mark.parametrize("name", FILES)
def test_decode__damaged_bytes_give_an_image_or_a_reason(name):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        data = bytearray(FILES[name])
        start = int(rng.integers(0, len(data) - 20))
        data[start : start + 20] = rng.bytes(20)
        try:
            assert decode(bytes(data), SIZE).shape == (*SIZE, 3)
        except UnreadableImage as error:
            assert str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\xff\xd8\xff", "damaged or truncated JPEG"),
        (b"\xff\xd8\xff" * 100, "damaged or truncated JPEG"),
    ],
)
def test_decode__reasons(data, reason):
    with pytest.raises(UnreadableImage) as caught:
        decode(data, SIZE)
    assert str(caught.value) == reason


def test_decode__over_opencv_limit():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(UnreadableImage, match=r"OpenCV refuses it: .*MAX_IMAGE_PIXELS"):
        decode(data, SIZE)


def test_read_image__reads_any_name(tmp_path):
    path = tmp_path / "größe \n 花.png"
    path.write_bytes(FILES["png"])
    np.testing.assert_array_equal(read_image(path, SIZE), IMAGE)


def test_read_image__missing_or_folder(tmp_path):
    with pytest.raises(UnreadableImage, match="cannot be read: No such file or directory"):
        read_image(tmp_path / "none.jpg", SIZE)
    with pytest.raises(UnreadableImage, match="cannot be read: Is a directory"):
        read_image(tmp_path, SIZE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_read_image__permission(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(FILES["png"])
    path.chmod(0)
    with pytest.raises(UnreadableImage, match="cannot be read: Permission denied"):
        read_image(path, SIZE)


def run_python(code, **options):
    root = Path(decoder.__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=root, **options)


def test_import__loads_opencv_and_numpy_only():
    code = "import sys, fastcls.data.decoder; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = run_python(code, text=True).stdout.split()
    assert not {"tensorflow", "keras", "sklearn", "h5py", "matplotlib"} & set(loaded)


@pytest.mark.parametrize("name", ["jpeg", "bmp", "webp", "tiff", "gif"])
def test_decode__opencv_prints_nothing(name):
    code = """
import sys
from fastcls.data.decoder import UnreadableImage, decode
try:
    decode(sys.stdin.buffer.read(), (9, 9))
except UnreadableImage as error:
    print(error)
"""
    done = run_python(code, input=FILES[name][: len(FILES[name]) // 2])
    assert b"truncated" in done.stdout and done.stderr == b""

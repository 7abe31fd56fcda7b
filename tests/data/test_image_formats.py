"""What each kind of file holds, against pixels that are known by construction.

The files are written here byte by byte, or by Pillow where it only compresses.
"""

import io
import itertools
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcls.data.decoder import UnreadableImage, decode

H, W = SIZE = (48, 64)
CASES = Path(__file__).parents[3] / "shared" / "cases"
RANDOM = np.random.default_rng(0)
RGB = cv2.resize(RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8), (W, H), interpolation=cv2.INTER_CUBIC)
GRAY = RGB[..., 0]
ALPHA = RANDOM.integers(0, 256, (H, W), dtype=np.uint8)
WHITE_IS_ZERO, BLACK_IS_ZERO, IS_RGB, PALETTE = 0, 1, 2, 3
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2


def in_three(gray):
    return np.repeat(gray[..., None], 3, axis=2)


def encode(image, file_format, **options):
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def tiff(samples, *, photometric, planar=False, extra=None, number=1, order="<", tiled=False, bits=None):
    """An uncompressed TIFF of samples (H, W) or (H, W, S); `bits` below 8 are packed."""
    samples = samples if samples.ndim == 3 else samples[..., None]
    count, bits = samples.shape[2], bits or 8 * samples.dtype.itemsize
    planes = [samples[..., place : place + 1] for place in range(count)] if planar else [samples]
    side = 16 if tiled else None
    parts = [part for plane in planes for part in (_tiles(plane, side) if tiled else [plane])]
    chunks = [_packed(part, bits, order) for part in parts]
    tags = [
        (256, "H", [W]),
        (257, "H", [H]),
        (258, "H", [bits] * count),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (277, "H", [count]),
        (284, "H", [2 if planar else 1]),
        *([(322, "H", [side]), (323, "H", [side])] if tiled else [(278, "H", [H])]),
        (324 if tiled else 273, "I", None),
        (325 if tiled else 279, "I", [len(chunk) for chunk in chunks]),
        *([(338, "H", [extra])] if extra is not None else []),
        (339, "H", [number] * count),
    ]
    begin = 8 + 2 + 12 * len(tags) + 4
    pixels = begin + 2000
    offsets = [pixels + sum(map(len, chunks[:place])) for place in range(len(chunks))]
    entries, more = b"", b""
    for tag, kind, values in sorted(tags):
        values = offsets if values is None else values
        field = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(field) > 4:
            more, field = more + field, struct.pack(f"{order}I", begin + len(more))
        entries += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(values)) + field.ljust(
            4, b"\0"
        )
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + bytes(4) + more.ljust(2000, b"\0") + b"".join(chunks)


def _tiles(plane, side):
    rows, columns = range(0, H, side), range(0, W, side)
    return [plane[top : top + side, left : left + side] for top, left in itertools.product(rows, columns)]


def _packed(part, bits, order):
    if bits < 8:
        digits = np.unpackbits(part.reshape(len(part), -1, 1), axis=2)[..., 8 - bits :]
        return np.packbits(digits.reshape(len(part), -1), axis=1).tobytes()
    return np.ascontiguousarray(part).astype(part.dtype.newbyteorder(order)).tobytes()


def decoded(data):
    return decode(data, SIZE)


def assert_exact(data, expected):
    np.testing.assert_array_equal(decoded(data), expected)


def assert_refused(data, reason):
    """By name: a whole file is never called damaged or truncated."""
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decoded(data)
    assert "damaged or truncated" not in str(caught.value)


# TIFF ------------------------------------------------------------------------------------------------

LAYOUTS = list(
    itertools.product((8, 16), (IS_RGB, BLACK_IS_ZERO, WHITE_IS_ZERO), (False, True), (False, True))
)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "photometric", "planar", "tiled"), LAYOUTS)
@pytest.mark.parametrize("extra", [None, UNSPECIFIED, UNASSOCIATED])
def test_tiff__gives_the_colors_or_is_refused_by_name(bits, photometric, planar, tiled, extra, order):
    colors = RGB if photometric == IS_RGB else GRAY[..., None]
    samples = colors if extra is None else np.dstack([colors, ALPHA])
    samples = samples.astype(np.uint16) * 257 if bits == 16 else samples
    data = tiff(samples, photometric=photometric, planar=planar, extra=extra, order=order, tiled=tiled)
    shown = RGB if photometric == IS_RGB else in_three(255 - GRAY if photometric == WHITE_IS_ZERO else GRAY)
    try:
        image = decoded(data)
    except UnreadableImage as error:
        assert f"damaged, or an unsupported TIFF: {bits} bits" in str(error)
        # Common ones are read: those in one plane, and planes of 8 bits or without tiles.
        rare_gray = extra is not None and photometric != IS_RGB
        rare_gray &= bits == 16 or photometric == WHITE_IS_ZERO or extra == UNSPECIFIED  # Pillow 11
        rare_planes = planar and (extra is not None or (bits == 16 and tiled))
        rare_tiles = tiled and photometric == WHITE_IS_ZERO and (bits == 16 or planar)
        assert rare_gray or rare_planes or rare_tiles
    else:
        np.testing.assert_array_equal(image, shown)


def test_tiff__premultiplied_alpha_is_divided_out():
    alpha = np.where(np.arange(W) < W // 2, 255, 128).astype(np.uint8) + np.zeros((H, 1), np.uint8)
    stored = np.dstack([np.rint(RGB * (alpha[..., None] / 255)).astype(np.uint8), alpha])
    for samples in (stored, stored.astype(np.uint16) * 257):
        image = decoded(tiff(samples, photometric=IS_RGB, extra=ASSOCIATED))
        assert np.abs(image.astype(int) - RGB).max() <= 2


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("photometric", [BLACK_IS_ZERO, WHITE_IS_ZERO])
def test_tiff__small_gray_values_span_the_range(bits, photometric):
    values = GRAY >> (8 - bits)
    shown = values * (255 // (2**bits - 1))
    shown = 255 - shown if photometric == WHITE_IS_ZERO else shown
    assert_exact(tiff(values, photometric=photometric, bits=bits), in_three(shown))


@pytest.mark.parametrize("compression", ["lzma", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
@pytest.mark.parametrize("image", [RGB, GRAY], ids=["rgb", "gray"])
def test_tiff__compressions(compression, image):
    data = encode(image, "TIFF", compression=compression)
    assert_exact(data, image if image.ndim == 3 else in_three(image))


def test_tiff__16_bit_gray_in_a_rare_compression():
    deep = Image.fromarray(GRAY.astype(np.uint16) * 257)
    assert_exact(encode(deep, "TIFF", compression="lzma"), in_three(GRAY))


@pytest.mark.parametrize(
    ("samples", "number", "reason"),
    [
        (GRAY.astype(np.float32) / 255, 3, "TIFF of float32 pixels"),
        (GRAY.astype(np.float16) / 255, 3, "TIFF of float16 pixels"),
        (RGB.astype(np.float64) / 255, 3, "TIFF of float64 pixels"),
        (GRAY.astype(np.int16), 2, "TIFF of int16 pixels"),
        (GRAY.astype(np.int8), 2, "TIFF of int8 pixels"),
        (GRAY.astype(np.uint32), 1, "TIFF of uint32 pixels"),
    ],
)
def test_tiff__numbers_of_unknown_range_are_refused_by_name(samples, number, reason):
    assert_refused(tiff(samples, photometric=IS_RGB if samples.ndim == 3 else 1, number=number), reason)


@pytest.mark.parametrize(("photometric", "named"), [(8, "Lab colors"), (32803, "raw sensor data")])
def test_tiff__other_colors_are_refused_by_name(photometric, named):
    assert_refused(tiff(RGB, photometric=photometric), f"TIFF of {named}")


# BMP -------------------------------------------------------------------------------------------------

MASKS = {
    "565": (16, (0xF800, 0x7E0, 0x1F, 0)),
    "555": (16, (0x7C00, 0x3E0, 0x1F, 0)),
    "bgrx": (32, (0xFF0000, 0xFF00, 0xFF, 0)),
    "bgra": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "xbgr": (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    "rgbx": (32, (0xFF, 0xFF00, 0xFF0000, 0)),
    "10 bits": (32, (0xFFE00000, 0x1FFC00, 0x3FF, 0)),
}


def bmp(bits, masks, header):
    """A BMP whose colors lie where masks say, and the colors that it holds."""
    pixels, shown = np.zeros((H, W), np.uint64), np.zeros((H, W, 3))
    for channel, mask in enumerate(masks[:3]):
        shift = (mask & -mask).bit_length() - 1
        most = mask >> shift
        values = (RGB[..., channel].astype(np.uint64) * most + 127) // 255
        pixels |= values << np.uint64(shift)
        shown[..., channel] = values * 255 / most
    rows = [row.astype(f"<u{bits // 8}").tobytes() for row in pixels[::-1]]
    told = struct.pack("<IiiHHIIiiII", header, W, H, 1, bits, 3, sum(map(len, rows)), 0, 0, 0, 0)
    told += struct.pack("<4I", *masks)[: 12 if header < 56 else 16]
    told = told.ljust(header, b"\0")
    start = 14 + len(told)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, start) + told + b"".join(rows), shown


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
@pytest.mark.parametrize("name", MASKS)
def test_bmp__masks_give_the_colors_or_are_refused_by_name(name, header):
    data, shown = bmp(*MASKS[name], header)
    if name in ("rgbx", "10 bits"):
        assert_refused(data, "BMP of an unsupported kind: Unsupported BMP bitfields layout")
    else:
        assert np.abs(decoded(data) - shown).max() <= 1


def test_bmp__16_bits_without_masks():
    data, shown = bmp(*MASKS["555"], 40)
    plain = data[:10] + struct.pack("<I", 54) + data[14:30] + bytes(4) + data[34:54] + data[66:]
    assert np.abs(decoded(plain) - shown).max() <= 1


# GIF, WebP, AVIF, PNM --------------------------------------------------------------------------------


def test_gif__transparent_pixels_keep_their_color():
    """The background index is that of the disk, as in sprites: it must not fill the surroundings."""
    disk = np.hypot(*np.mgrid[-24:24, -32:32]) < 15
    image = Image.fromarray(np.where(disk, 0, 1).astype(np.uint8), "P")
    image.putpalette([220, 30, 30, 255, 255, 255])
    data = encode(image, "GIF", transparency=1, background=0)
    assert_exact(data, np.where(disk[..., None], (220, 30, 30), (255, 255, 255)))


def test_gif__a_frame_larger_than_its_screen_is_read():
    data = bytearray(encode(Image.fromarray(GRAY), "GIF"))
    assert struct.unpack_from("<HH", data, 6) == (W, H)
    struct.pack_into("<HH", data, 6, W // 2, H // 2)
    assert_exact(bytes(data), in_three(GRAY))


def webp_with_exif(image, prefix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data, chunks, place = encode(image, "WEBP", lossless=True, exif=exif.tobytes()), b"", 12
    while place < len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        body = data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
        if name == b"EXIF":
            body = prefix + body.removeprefix(b"Exif\0\0")
        chunks += name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


TURNED = {
    2: RGB[:, ::-1],
    3: np.rot90(RGB, 2),
    4: RGB[::-1],
    5: RGB.swapaxes(0, 1),
    6: np.rot90(RGB),
    7: np.rot90(RGB, 2).swapaxes(0, 1),
    8: np.rot90(RGB, -1),
}


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("orientation", TURNED)
def test_webp__is_turned_upright(prefix, orientation):
    assert_exact(webp_with_exif(np.ascontiguousarray(TURNED[orientation]), prefix, orientation), RGB)


def test_avif__drops_alpha_and_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.ascontiguousarray(np.rot90(np.dstack([RGB, ALPHA])))
    data = encode(turned, "AVIF", quality=100, exif=exif.tobytes())
    assert np.abs(decoded(data).astype(int) - RGB).mean() < 4


@pytest.mark.parametrize("image", [np.dstack([RGB, ALPHA]), np.dstack([GRAY, ALPHA])], ids=["rgb", "gray"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "JPEG2000", "WEBP"])
def test_alpha_is_dropped_in_every_format(image, file_format):
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    assert_exact(encode(image, file_format, **options), RGB if image.shape[2] == 4 else in_three(GRAY))


@pytest.mark.parametrize("most", [15, 255, 1000, 65535])
@pytest.mark.parametrize(("letters", "image"), [(b"P5", GRAY[..., None]), (b"P6", RGB)])
def test_pnm__values_span_the_range(letters, image, most):
    values = (image.astype(int) * most + 127) // 255
    data = letters + b" %d %d %d\n" % (W, H, most) + values.astype(">u2" if most > 255 else "u1").tobytes()
    shown = values * 255 / most
    assert np.abs(decoded(data) - shown).max() <= 1


# What is damaged, and what is no image ------------------------------------------------------------------

WHOLE = {
    "tiff alpha": encode(np.dstack([RGB, ALPHA]), "TIFF"),
    "tiff lzma": encode(RGB, "TIFF", compression="lzma"),
    "tiff tiles": tiff(RGB, photometric=IS_RGB, tiled=True),
    "tiff 4 bits": tiff(GRAY >> 4, photometric=BLACK_IS_ZERO, bits=4),
    "tiff 16 bits": tiff(RGB.astype(np.uint16), photometric=IS_RGB),
    "tiff planes": tiff(RGB, photometric=IS_RGB, planar=True),
    "tiff 16-bit planes": tiff(RGB.astype(np.uint16), photometric=IS_RGB, planar=True),
    "bmp 565": bmp(*MASKS["565"], 56)[0],
    "avif": encode(RGB, "AVIF"),
    "pnm": b"P6 %d %d 255\n" % (W, H) + RGB.tobytes(),
    "jpeg 2000": encode(RGB, "JPEG2000"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_truncated_is_never_a_half_picture(name):
    data = WHOLE[name]
    lengths = {int(len(data) * share) for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)}
    for length in lengths | {len(data) - 1, len(data) - 20} if name != "jpeg 2000" else lengths:
        with pytest.raises(UnreadableImage, match="damaged"):
            decoded(data[:length])


@pytest.mark.parametrize("name", WHOLE)
def test_damaged_bytes_give_an_image_or_a_reason(name):
    for seed in range(30):
        random = np.random.default_rng(seed)
        data = bytearray(WHOLE[name])
        start = int(random.integers(0, min(len(data) - 8, 400)))
        data[start : start + 8] = random.bytes(8)
        try:
            assert decoded(bytes(data)).shape == (*SIZE, 3)
        except UnreadableImage as error:
            assert str(error) and "\n" not in str(error)


def media(*brands):
    return struct.pack(">I4s", 8 + 4 * len(brands), b"ftyp") + b"".join(brands) + bytes(200)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (media(b"isom", b"\0\0\0\0", b"mp41"), "a video"),
        (b"\n <!DOCTYPE html><html>not found" * 9, "a web page (HTML). Download the image again"),
        (b"\xef\xbb\xbf<HTML>", "a web page (HTML). Download the image again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a Git LFS pointer to the image. Run: git lfs pull",
        ),
        (b'<?xml version="1.0"?>\n<svg xmlns', "an SVG drawing"),
        (b"%PDF-1.7", "a PDF document"),
        (b"RIFF\0\0\0\0AVI LIST", "a video"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b'{"error": "not found"}', 'text that begins with \'{"error": "not found"}\''),
        (b"BMW is a maker of cars and no bitmap", "text that begins with 'BMW is a maker of cars and no '"),
        (b"x", "text that begins with 'x'"),
        (bytes(1000), "only zero bytes"),
        (b"\x80\x81\x82" * 9, "of an unknown format"),
    ],
)
def test_what_is_no_image_is_named(data, reason):
    with pytest.raises(UnreadableImage) as caught:
        decoded(data)
    assert str(caught.value) == f"not an image: {reason}"


@pytest.mark.skipif(not CASES.exists(), reason="the files of others are not here")
@pytest.mark.parametrize(
    "name", ["alpha.png", "alpha.tif", "exif_plain.webp", "exif_prefix.webp", "planar8.tif", "planar16.tif"]
)
def test_files_of_others(name):
    scene = np.asarray(Image.open(CASES / "scene.png"))
    np.testing.assert_array_equal(decode((CASES / name).read_bytes(), scene.shape[:2]), scene)

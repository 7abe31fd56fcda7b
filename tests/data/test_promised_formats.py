"""Every suffix that is promised is found in folders and decoded; every other file is named."""

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fastcls.data import image_files, pillow_images
from fastcls.data.dataset import Dataset
from fastcls.data.decoder import UnreadableHere, UnreadableImage, decode, read_image
from fastcls.data.image_formats import SUFFIXES
from fastcls.data.readers.folder import image_suffixes, list_images
from fastcls.data.writers.split import write_split
from fastcls.errors import DataError
from fastcls.inference.inputs import each

H, W = SIZE = (48, 64)
SMALL = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
RGB = cv2.resize(SMALL, (W, H), interpolation=cv2.INTER_CUBIC)
EXACT = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}  # HEIC without loss


def saved(image, file_format, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format, **options)
    return buffer.getvalue()


def heic(image, **options):
    heif, buffer = pytest.importorskip("pillow_heif"), io.BytesIO()
    made = image if isinstance(image, heif.HeifFile) else heif.from_pillow(Image.fromarray(image))
    made.save(buffer, **EXACT, **options)
    return buffer.getvalue()


def sun_raster(image):
    return struct.pack(">8I", 0x59A66A95, W, H, 24, image.nbytes, 1, 0, 0) + image[..., ::-1].tobytes()


# Bytes of a file with the picture, by format, and how far its pixels may be away on average.
MAKERS = {
    "JPEG": (lambda: saved(RGB, "JPEG", quality=95, subsampling=0), 3),
    "PNG": (lambda: saved(RGB, "PNG"), 0),
    "BMP": (lambda: saved(RGB, "BMP"), 0),
    "GIF": (lambda: saved(RGB, "GIF"), 10),
    "WebP": (lambda: saved(RGB, "WEBP", lossless=True), 0),
    "TIFF": (lambda: saved(RGB, "TIFF"), 0),
    "AVIF": (lambda: saved(RGB, "AVIF", quality=100), 3),
    "HEIC": (lambda: heic(RGB), 0),
    "JPEG 2000": (lambda: saved(RGB, "JPEG2000"), 0),
    "PNM": (lambda: saved(RGB, "PPM"), 0),
    "Sun raster": (lambda: sun_raster(RGB), 0),
}


@pytest.mark.parametrize("kind", SUFFIXES)
def test_each_promised_suffix_is_found_and_holds_the_picture(kind, tmp_path):
    make, bound = MAKERS[kind]
    data = make()
    assert image_files.is_readable(kind)
    for suffix in SUFFIXES[kind]:
        (tmp_path / f"a{suffix}").write_bytes(data)
        (tmp_path / f"b{suffix.upper()}").write_bytes(data)
    found = list_images(tmp_path)
    assert len(found.images) == 2 * len(SUFFIXES[kind]) and not found.left_out
    for name in found.images:
        image = read_image(tmp_path / name, SIZE)
        assert np.abs(image.astype(int) - RGB).mean() <= bound
    # The first bytes count, not the name; a truncated file is no half picture.
    np.testing.assert_array_equal(decode(data, SIZE), image)
    with pytest.raises(UnreadableImage):
        decode(data[: len(data) // 2], SIZE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic__is_turned_upright_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(RGB)
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(pillow_images.ImageOps.exif_transpose(stored))
    image = decode(heic(RGB, exif=exif.tobytes()), upright.shape[:2])
    np.testing.assert_array_equal(image, upright)


def test_heic__deep_gray_and_with_alpha():
    heif = pytest.importorskip("pillow_heif")
    deep = heif.from_bytes("RGB;16", (W, H), (RGB.astype("<u2") * 257).tobytes())
    np.testing.assert_array_equal(decode(heic(deep), SIZE), RGB)
    np.testing.assert_array_equal(decode(heic(np.dstack([RGB, RGB[..., 0]])), SIZE), RGB)
    np.testing.assert_array_equal(decode(heic(RGB[..., 0].copy()), SIZE), RGB[..., :1].repeat(3, axis=2))


HEIC_HEADER = struct.pack(">I4s", 24, b"ftyp") + b"heic\0\0\0\0mif1heic" + bytes(200)


@pytest.fixture
def install(monkeypatch):
    """Pretends that HEIC and AVIF can be read here, or not."""

    def pretend(*, present):
        monkeypatch.setattr(image_files, "has_heif", lambda: present)
        monkeypatch.setattr(image_files.features, "check", lambda name: present or name != "avif")
        image_files.is_readable.cache_clear()

    yield pretend
    image_files.is_readable.cache_clear()


@pytest.fixture
def bare(install):
    """A build that reads neither."""
    install(present=False)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (HEIC_HEADER, r"HEIC image, not readable here\. To read HEIC: pip install pillow-heif"),
        (MAKERS["AVIF"][0](), r"AVIF image, not readable here\..*lacks AVIF: convert it to JPEG or PNG"),
    ],
)
def test_a_format_that_the_build_lacks_is_not_promised_and_says_what_to_do(bare, data, remedy):
    assert not {".heic", ".avif"} & {*image_suffixes()} and ".jfif" in image_suffixes()
    with pytest.raises(UnreadableHere, match=remedy):  # and is tried again by a later run
        decode(data, SIZE)


@pytest.fixture
def album(tmp_path):
    """Two classes, and all kinds of entries beside their images."""
    root = tmp_path / "photos"
    others = [".cat/1.jpg", "a/1.HEIC", "a/2.heic", "a/notes.txt", "a/.b.jpg", "loose.jpg"]
    junk = [".DS_Store", "a/._1.jpg", "b/Thumbs.db", "__MACOSX/a/1.jpg", "a/.ipynb_checkpoints/1.jpg"]
    for name in ["a/1.jpg", "b/1.jfif", *others, *junk]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_what_is_left_out_is_counted_and_named_with_what_to_do(bare, album, caplog):
    dataset = Dataset.open(album)
    assert [sample.path for sample in dataset.samples] == ["a/1.jpg", "b/1.jfif"]
    told = [record.getMessage().removeprefix(f"{album}: ") for record in caplog.records]
    assert told == [
        "2 images that are not readable here are left out: 'a/1.HEIC', 'a/2.heic'. To read HEIC: pip install "
        "pillow-heif",
        "1 image in no class folder is left out: 'loose.jpg'",
        "1 hidden folder is left out: '.cat/'. A class folder needs a name without a dot in front",
        "1 hidden file is left out: 'a/.b.jpg'",
        "1 file that is not named like an image is left out: 'a/notes.txt'",
    ]
    caplog.clear()
    assert [path.name for path in each(album)] == ["1.jpg", "1.jfif", "loose.jpg"]
    assert "2 images that are not readable here are left out: 'a/1.HEIC'" in caplog.text


def test_the_docs_name_every_suffix():
    text = (Path(__file__).parents[2] / "docs" / "extraction.md").read_text(encoding="utf-8")
    named = text.partition("what is an image: `")[2].partition("`")[0].split()
    assert sorted(named) == sorted(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def test_a_split_folder_keeps_what_another_machine_cannot_read(install, tmp_path, caplog):
    """split-data with the extra for HEIC; then everything without it; then with it again."""
    install(present=True)
    for number in range(10):
        for name in (f"a/{number}.heic", f"b/{number}.jpg"):
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).write_bytes(name.encode())
    (tmp_path / "photos/a/0.jpg").write_bytes(b"a jpeg")
    first = write_split(Dataset.open(tmp_path / "photos"), tmp_path / "out").dataset
    assert len(first.samples) == 21
    install(present=False)
    assert len(Dataset.open(tmp_path / "out").samples) == 11
    assert "no longer exist" not in caplog.text and "10 images that are not readable here" in caplog.text
    again = write_split(Dataset.open(tmp_path / "photos"), tmp_path / "out")
    assert (again.added, again.vanished) == (0, 10)
    (tmp_path / "a.csv").write_text("path,label\nphotos/a/0.heic,x\nphotos/b/0.jpg,y\n")
    with pytest.raises(DataError, match=r"0\.heic.*To read HEIC: pip install"):
        write_split(Dataset.open(tmp_path / "a.csv"), tmp_path / "other", allow_small=True)
    install(present=True)
    assert Dataset.open(tmp_path / "out") == first

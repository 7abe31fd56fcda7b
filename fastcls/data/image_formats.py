"""Formats of files, recognized by their first bytes."""

from __future__ import annotations

import os
import re

_TEXT_SHOWN = 30

# Endings of file names, by the format that is meant; what a file holds is told by its first bytes.
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif", ".hif"),
    "JPEG 2000": (".jp2", ".j2k", ".jpf", ".jpc", ".j2c"),
    "PNM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "Sun raster": (".ras", ".sr"),
}
_KINDS = {suffix: kind for kind, suffixes in SUFFIXES.items() for suffix in suffixes}
_SIGNATURES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),  # the sizes that its headers have
    (rb"RIFF.{4}WEBP", "WebP"),
    (rb"II[*+]\0|MM\0[*+]", "TIFF"),  # + is BigTIFF
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"P[1-6]\s", "PNM"),
    (rb"\x59\xa6\x6a\x95", "Sun raster"),
)
_OTHERS = (
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL picture. Convert it to JPEG or PNG"),
    (rb"version https://git-lfs", "a Git LFS pointer to the image. Run: git lfs pull"),
    (rb"\s*<(!doctype html|html|head|body)", "a web page (HTML). Download the image again"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", "an SVG drawing"),
    (rb"\s*<\?xml", "XML"),
    (rb"P7\n", "a PAM picture. Convert it to PNG"),
    (rb"%PDF", "a PDF document"),
    (rb"%!PS", "a PostScript document"),
    (rb"8BPS", "a Photoshop document"),
    (rb"PK\x03\x04", "a zip archive"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"7z\xbc\xaf|Rar!", "an archive (7z or RAR)"),
    (rb"\0\0[\x01\x02]\0.\0", "an icon"),
    (rb"\0\x05\x16[\0\x07]", "a macOS resource fork"),
    (rb"#\?(RADIANCE|RGBE)|v/1\x01|P[Ff]\s", "a floating-point image (HDR, EXR or PFM) of unknown range"),
    (rb"FUJIFILMCCD-RAW|FOVb", "a camera raw photo. Convert it to JPEG"),
    (rb"RIFF.{4}AVI |\x1aE\xdf\xa3|\0\0\x01\xba|FLV", "a video"),
    (rb"RIFF.{4}WAVE|ID3|OggS|fLaC", "sound"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\0+\Z", "only zero bytes"),
)
_HEIF_BRANDS = (b"hei", b"hev", b"mif", b"msf")


class UnreadableImage(Exception):  # noqa: N818 - data about one image, not an error that stops a run
    """One image cannot be used; the message is the reason, in one line."""


class UnreadableHere(UnreadableImage):
    """One image cannot be used on this machine; with more memory or other packages it may be readable."""


class OversizedImage(UnreadableHere):
    """One image needs more memory than is available now."""


def named_kind(name: str) -> str:
    """The format that a file name promises by its ending, in any case; "" for none.

    >>> [named_kind(name) for name in ("IMG_0001.HEIC", "a.jfif", "notes.txt")]
    ['HEIC', 'JPEG', '']
    """
    return _KINDS.get(os.path.splitext(name)[1].lower(), "")  # noqa: PTH122 (a Path for each is slow)


def kind_of(data: bytes) -> str:
    """The image format of a file, by its first bytes; "" for any other file."""
    if data[4:8] == b"ftyp":
        brands = _brands(data)
        is_heif = any(brand.startswith(_HEIF_BRANDS) for brand in brands)
        return "AVIF" if {b"avif", b"avis"} & brands else "HEIC" if is_heif else ""
    return next((kind for pattern, kind in _SIGNATURES if re.match(pattern, data, re.DOTALL)), "")


def describe_other(data: bytes) -> str:
    """A description of a file that is not an image of a known format, from its first bytes."""
    if data[4:8] == b"ftyp":
        return "a video"
    begin = data.removeprefix(b"\xef\xbb\xbf")
    flags = re.DOTALL | re.IGNORECASE
    for pattern, named in _OTHERS:
        if re.match(pattern, begin if named != "only zero bytes" else data, flags):
            return named
    text = begin[:_TEXT_SHOWN].decode("ascii", "replace")
    is_text = all(letter.isprintable() or letter.isspace() for letter in text) and "\ufffd" not in text
    return f"text that begins with {text!r}" if is_text else "of an unknown format"


def _brands(data: bytes) -> set[bytes]:
    """The brands of a file of ISO's media format: the first, and those that it is compatible with."""
    length = min(int.from_bytes(data[:4], "big"), 256)
    return {data[8:12], *(data[start : start + 4] for start in range(16, length, 4))}

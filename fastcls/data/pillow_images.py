"""Formats that Pillow decodes, because OpenCV gets them wrong or does not read them."""

from __future__ import annotations

import importlib
import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from fastcls.data.image_formats import OversizedImage, UnreadableImage

# Modes whose values are 0..255: for others `convert` clips what it cannot know the range of.
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_FORMATS = {"WebP": "WEBP", "JPEG 2000": "JPEG2000", "PNM": "PPM", "Sun raster": "SUN"}

# Damage comes back as a reason, and the size is bounded by `decode`.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnknownLayout(UnreadableImage):
    """Pillow does not know what such a file is made of; it may be whole."""


def has_heif() -> bool:
    """Whether the extra that reads HEIC is installed."""
    try:
        importlib.import_module("pillow_heif")
    except ImportError:
        return False
    return True


def open_image(data: bytes, kind: str) -> Image.Image:
    """Read the header of a file.

    Raises:
        UnreadableImage: The file is damaged, or Pillow does not know it.
    """
    try:
        if kind == "HEIC":
            heif: Image.Image = importlib.import_module("pillow_heif").HeifImageFile(io.BytesIO(data))
            return heif
        return Image.open(io.BytesIO(data), formats=(_FORMATS.get(kind, kind),))
    except Exception as error:
        raise _reason(error, kind) from error


def read_rgb(image: Image.Image, kind: str) -> np.ndarray:
    """The upright pixels of an opened file, as Pillow's `convert("RGB")` shows them: (h, w, 3) uint8.

    Raises:
        UnreadableImage: The file is damaged, or has pixels of unknown range.
    """
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode in _EIGHT_BITS:
            return np.asarray(image.convert("RGB"))
        values = np.asarray(image)
    except Exception as error:
        raise _reason(error, kind) from error
    if image.mode.startswith("I;16") or (kind == "PNM" and image.mode == "I"):
        gray = ((values.astype(np.int32) + 128) // 257).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    raise UnknownLayout(f"{kind} of mode {image.mode}, whose range is unknown. Convert it to 8 bits")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that an opened file names; 1 for upright."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF data turns nothing
        return 1


def _reason(error: Exception, kind: str) -> UnreadableImage:
    if isinstance(error, MemoryError):
        return OversizedImage("not enough memory to decode it")
    text = " ".join(str(error).split())
    if isinstance(error, Image.DecompressionBombError):
        return UnreadableImage(f"Pillow refuses it: {text}")
    if isinstance(error, Image.UnidentifiedImageError):
        return UnknownLayout(f"damaged or truncated {kind}")
    if text.startswith("Unsupported"):
        return UnknownLayout(f"{kind} of an unsupported kind: {text}")
    return UnreadableImage(f"damaged or truncated {kind}")

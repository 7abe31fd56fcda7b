"""Pixels of encoded images inside of a TensorFlow graph: those of `data/decoder.py`, in OpenCV's integers.

TensorFlow's own defaults are other pixels: on photos probabilities moved by up to 0.29. What the graph lacks:
it turns no image by its EXIF orientation, reads JPEG and PNG alone, and a batch fails with any of its images.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.data import image_bytes
from fastcls.data.decoder import Decoder
from fastcls.data.image_formats import kind_of
from fastcls.data.pillow_images import open_image, orientation
from fastcls.errors import ExportError
from fastcls.exporting.photos import Photos
from fastcls.exporting.runtimes import OUTPUT
from fastcls.specs import PixelRule

ENCODED = "image_bytes"  # the name of the signature, and of its input
LACKS = "EXIF orientation; formats but JPEG and PNG; a batch fails with any of its images"
# Measured on 80 photos at 4 sizes: 0.0008 and 1.
MEAN_LEVEL, MAX_LEVEL = 0.05, 1
_JPEG = b"\xff\xd8\xff"
_BITS = 11  # of OpenCV's weights
_FACTORS = (1, 2, 4, 8)  # by which a JPEG is scaled down while it is decoded


def check_encoded(saved: Path, photos: Photos, rule: PixelRule, probabilities: np.ndarray) -> dict[str, Any]:
    """Compare the second signature of a SavedModel with the decoder and with Keras.

    Args:
        saved: The folder of the SavedModel.
        photos: Some images; those that it does not take are left out.
        rule: Of the pixels.
        probabilities: What Keras says of them, (N, C).

    Returns:
        For export.json.

    Raises:
        ExportError: It makes other pixels.
    """
    import tensorflow as tf

    read = [image_bytes.read_bytes(path) for path in photos.files]
    places = [place for place, data in enumerate(read) if is_taken(data)]
    told: dict[str, Any] = {"images": len(places), "left_out": len(read) - len(places), "lacks": LACKS}
    if not places:
        return told
    data = tf.constant([read[place] for place in places])
    found = np.asarray(tf.function(pixels_of(rule))(data), np.int16)
    levels = np.abs(found - photos.pixels[places])
    loaded = tf.saved_model.load(str(saved))  # whose signatures live as long as it does
    answers = np.asarray(loaded.signatures[ENCODED](**{ENCODED: data})[OUTPUT])
    told |= {
        "mean_level": float(levels.mean()),
        "max_level": int(levels.max()),
        "max_difference": float(np.abs(answers - probabilities[places]).max()),
    }
    if told["mean_level"] > MEAN_LEVEL or told["max_level"] > MAX_LEVEL:
        raise ExportError(
            f"its pixels of encoded images differ from those of fastcls by {told['mean_level']:.2g} of 255 "
            f"levels on average, and by up to {told['max_level']}; allowed are {MEAN_LEVEL:g} and {MAX_LEVEL}"
        )
    return told


def is_taken(data: bytes) -> bool:
    """Whether the graph makes the pixels of fastcls of an image: a JPEG or PNG that is stored upright."""
    kind = kind_of(data)
    return kind in ("JPEG", "PNG") and orientation(open_image(data, kind)) == 1


def pixels_of(rule: PixelRule) -> Callable[[Any], Any]:
    """What makes pixels of encoded images.

    Args:
        rule: Of the pixels.

    Returns:
        A function of a string tensor (B,), which gives (B, H, W, 3) uint8 RGB.
    """
    import tensorflow as tf

    decoder = Decoder(rule)
    factors, side = _FACTORS[:1] if decoder.full_decode else _FACTORS, max(decoder.resizing.wanted(rule.size))

    def one(data: Any) -> Any:
        image = tf.cond(
            tf.strings.substr(data, 0, len(_JPEG)) == _JPEG,
            lambda: _decode_jpeg(data, factors, side),
            lambda: tf.io.decode_image(data, channels=3, expand_animations=False),
        )
        image.set_shape((None, None, 3))
        return _resize(_seen(image, decoder.resizing.crop, rule.size), rule.size)

    return lambda data: tf.map_fn(one, data, fn_output_signature=tf.TensorSpec((*rule.size, 3), tf.uint8))


def _decode_jpeg(data: Any, factors: tuple[int, ...], side: int) -> Any:
    """See `Jpeg.factor`."""
    import tensorflow as tf

    def decode(factor: int) -> Callable[[], Any]:
        # Else TensorFlow takes the fast transform, which is not OpenCV's.
        return lambda: tf.io.decode_jpeg(data, channels=3, ratio=factor, dct_method="INTEGER_ACCURATE")

    shorter = tf.reduce_min(tf.io.extract_jpeg_shape(data)[:2])
    place = tf.reduce_sum(tf.cast(shorter >= [factor * side for factor in factors[1:]], tf.int32))
    return tf.switch_case(place, [decode(factor) for factor in factors])


def _seen(image: Any, crop: Fraction | None, size: tuple[int, int]) -> Any:
    """See `Resizing.window`, in whole numbers."""
    import tensorflow as tf

    if crop is None:
        return image
    shape, sides = tf.shape(image, tf.int64)[:2], np.array(size, np.int64)
    limiting = tf.cast(shape[0] * sides[1] > shape[1] * sides[0], tf.int32)
    below = 2 * tf.gather(sides, limiting) * crop.denominator
    doubled = 2 * tf.gather(shape, limiting) * sides * crop.numerator
    seen = tf.maximum((2 * doubled + below) // (2 * below), 1)
    start = (shape - seen) // 2
    return tf.slice(image, tf.concat([start, [0]], 0), tf.concat([seen, [3]], 0))


def _resize(image: Any, size: tuple[int, int]) -> Any:
    """See `fastcls.data.resizing.Resizing.apply`."""
    import tensorflow as tf

    height, width = size
    sides = tf.cast(tf.shape(image)[:2], tf.float64) / np.array(size, np.float64)
    times = tf.cast(tf.math.ceil(tf.maximum(tf.reduce_max(sides), 2) / 2), tf.int32)
    sampled = _bilinear(image, times * height, times * width)
    total = tf.reduce_sum(tf.reshape(sampled, [height, times, width, times, 3]), axis=[1, 3])
    share = tf.cast(1 / tf.cast(times * times, tf.float64), tf.float32)
    mean = tf.cast(tf.round(tf.cast(total, tf.float32) * share), tf.int32)
    half_up = tf.bitwise.right_shift(total + 2, 2)  # OpenCV's mean of four
    return tf.cast(tf.where(times == 2, half_up, mean), tf.uint8)


def _bilinear(image: Any, height: Any, width: Any) -> Any:
    """OpenCV's INTER_LINEAR of bytes: weights of 11 bits, with its shifts between."""
    import tensorflow as tf

    values, shape, shift = tf.cast(image, tf.int32), tf.shape(image), tf.bitwise.right_shift
    left, right, from_left, from_right = _taps(width, shape[1])
    above, below, from_above, from_below = _taps(height, shape[0])
    rows = tf.gather(values, left, axis=1) * from_left[:, None]
    rows = shift(rows + tf.gather(values, right, axis=1) * from_right[:, None], 4)
    upper = shift(tf.gather(rows, above) * from_above[:, None, None], 16)
    lower = shift(tf.gather(rows, below) * from_below[:, None, None], 16)
    return shift(upper + lower + 2, 2)


def _taps(count: Any, length: Any) -> tuple[Any, Any, Any, Any]:
    """Of each of `count` samples of `length` pixels: the two pixels beside it, and their weights."""
    import tensorflow as tf

    # As OpenCV computes it: one over the quotient.
    scale = 1 / (tf.cast(count, tf.float64) / tf.cast(length, tf.float64))
    place = tf.cast((tf.cast(tf.range(count), tf.float64) + 0.5) * scale - 0.5, tf.float32)
    first = tf.cast(tf.floor(place), tf.int32)
    part = place - tf.floor(place)
    part = tf.where((first < 0) | (first >= length - 1), 0.0, part)
    first = tf.clip_by_value(first, 0, length - 1)
    weights = [tf.cast(tf.round(each * 2**_BITS), tf.int32) for each in (1 - part, part)]
    return first, tf.minimum(first + 1, length - 1), weights[0], weights[1]

"""Backbones of keras_hub: `keras_hub:PRESET`, where a preset has a name or is a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcls.backend import reproducible_build
from fastcls.bases.model_files import first_line
from fastcls.errors import OptionError
from fastcls.optional import require

_PREFIX = "keras_hub:"


@dataclass(frozen=True)
class Preset:
    """A backbone and what the preset says of its images.

    Attributes:
        model: Keras model.
        size: (height, width) in pixels; None where the preset leaves it open.
        normalize: As `BaseSpec.normalize`; None where the preset does not say it.
    """

    model: Any
    size: tuple[int, int] | None
    normalize: str | None


def is_preset(name: str) -> bool:
    """Whether a base is given as "keras_hub:PRESET"."""
    return name.startswith(_PREFIX)


def read_preset(name: str, *, with_weights: bool) -> Preset:
    """Load a backbone; keras_hub downloads a preset that is no folder.

    Args:
        name: "keras_hub:PRESET".
        with_weights: Its own weights instead of random ones.

    Raises:
        MissingExtraError: keras_hub is not installed.
        OptionError: There is no such preset, it cannot be downloaded, or it is none of images.
    """
    hub = require("keras_hub", purpose="A base keras_hub:PRESET")
    preset = name.removeprefix(_PREFIX)
    with reproducible_build():
        try:
            model = hub.models.Backbone.from_preset(preset, load_weights=with_weights)
        except Exception as error:  # keras_hub, and what it downloads with, raise errors of many classes
            raise OptionError(
                f"keras_hub cannot load the preset {preset!r}: {first_line(error)}. Give a name that "
                "https://keras.io/keras_hub/presets lists, if it can be downloaded, or a preset's folder"
            ) from error
    converter = _read_converter(hub, preset)
    if converter is None:
        return Preset(model, None, None)
    size = converter.image_size
    known = size if size and None not in size else None
    return Preset(model, known, _normalization(converter.scale, converter.offset))


def _read_converter(hub: Any, preset: str) -> Any:
    if Path(preset).is_dir() and not (Path(preset) / "image_converter.json").exists():
        return None
    try:
        return hub.layers.ImageConverter.from_preset(preset)
    except ValueError:  # the preset has none
        return None


def _normalization(scale: Any, offset: Any) -> str:
    """Pixels * scale + offset, as a mean and a standard deviation of pixels 0..255."""
    scales = [float(value) for value in _as_list(scale, 1.0)]
    offsets = [float(value) for value in _as_list(offset, 0.0)]
    channels = max(len(scales), len(offsets))
    scales, offsets = (values * (channels // len(values)) for values in (scales, offsets))
    if set(scales) == {1.0} and set(offsets) == {0.0}:
        return "none"
    means = [0.0 - offset / scale for scale, offset in zip(scales, offsets, strict=True)]
    return ",".join(repr(value) for value in [*means, *(1 / scale for scale in scales)])


def _as_list(value: Any, default: float) -> list[float]:
    if value is None:
        return [default]
    return list(value) if isinstance(value, (list, tuple)) else [value]

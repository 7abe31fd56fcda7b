"""Backbones of keras_hub: `keras_hub:PRESET`, where a preset has a name or is a folder."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from fastcls import files, graph
from fastcls.backend import reproducible_build
from fastcls.bases.families import REFUSED, REFUSED_TYPES
from fastcls.bases.model_files import first_line
from fastcls.bases.tower_weights import tensor_names
from fastcls.bases.towers import is_tower, read_tower
from fastcls.errors import FastclsError, OptionError, closest
from fastcls.optional import require

_PREFIX = "keras_hub:"
# Of a model of images and texts, or one that finds objects: the part that makes features of images.
_SEEING = ("vision_encoder", "image_encoder")

_SQUARE = ("MiTBackbone",)
_BLOCK = re.compile(r"\blayers?\.(\d+)\.")  # in the names of tensors of Hugging Face


@dataclass(frozen=True)
class Preset:
    """A backbone and what the preset says of its images.

    Attributes:
        model: Keras model; None before it is loaded.
        size: (height, width) in pixels; None where the preset leaves it open.
        normalize: As `BaseSpec.normalize`; None where the preset does not say it.
        crop: Share of the shorter side of an image that is left of it by the crop that the preset asks for.
    """

    model: Any
    size: tuple[int, int] | None
    normalize: str | None
    crop: Fraction = Fraction(1)


def is_preset(name: str) -> bool:
    """Whether a base is given as "keras_hub:PRESET"."""
    return name.startswith(_PREFIX)


def preset_of(name: str) -> str:
    """The preset of "keras_hub:PRESET"."""
    return name.removeprefix(_PREFIX)


def read_preset(name: str, *, with_weights: bool, size: tuple[int, int] | None = None) -> Preset:
    """Load a backbone of images; keras_hub downloads a preset that is no folder.

    Of a model that does more, such as one of images and texts or a segmenter, it is the part that makes
    features of images.

    Args:
        name: "keras_hub:PRESET", where the preset is a name, a folder of keras_hub's, or one of Hugging Face.
        with_weights: Its own weights instead of random ones.
        size: (height, width) of the images that it is to take; None for the preset's own.

    Raises:
        MissingExtraError: keras_hub is not installed.
        OptionError: There is no such preset, it cannot be downloaded, it is none of images, or its family
            cannot be opened.
    """
    hub = require("keras_hub", purpose="A base keras_hub:PRESET", extra="hub")
    preset = preset_of(name)
    kind = find_preset(hub, preset)
    if kind:  # known without a download
        _require_family(hub, name, kind)
    found = _read_folder(Path(preset)) or _read_converter(hub, preset)
    size = size or found.size
    with reproducible_build():
        model = _load(hub, preset, size, with_weights=with_weights)
    _require_family(hub, name, type(model))
    model = next((getattr(model, part) for part in _SEEING if hasattr(model, part)), model)
    if graph.is_functional(model) and [len(tensor.shape) for tensor in model.inputs] != [4]:
        raise OptionError(_explain_no_images(name, type(model)))
    _require_square(name, model, size)
    _require_whole_patches(name, model, size)
    _require_size(name, model, size, found.size)
    return replace(found, model=_to_the_deepest(model))


def find_preset(hub: Any, preset: str) -> Any:
    """The class of a preset's backbone, as far as that is known without a download or a conversion.

    Raises:
        OptionError: There is no such preset, or the folder is none, or of a model that cannot be opened.
    """
    backbone, folder = hub.models.Backbone, Path(preset)
    if not preset:
        raise OptionError(f"{_PREFIX} lacks the preset. Expected its name or folder: {_PREFIX}dinov2_small")
    if folder.is_file():
        raise OptionError(f"{folder} is a file. Give the folder of the preset, with its config.json")
    if folder.is_dir():
        config = read_config(folder)
        kind = str(config.get("model_type"))
        if kind in REFUSED_TYPES:
            raise OptionError(f"{folder} is {REFUSED_TYPES[kind]}")
        return getattr(hub.models, str(config.get("class_name")), None)
    if "://" in preset:
        return None
    if preset not in backbone.presets:
        raise OptionError(
            f"keras_hub has no preset {preset!r}, and there is no such folder. The closest presets are "
            f"{closest(preset, hub.layers.ImageConverter.presets)}"
        )
    kinds: list[Any] = [kind for kind in vars(hub.models).values() if isinstance(kind, type)]
    own = [kind for kind in kinds if issubclass(kind, backbone) and preset in kind.presets]
    return min(own, key=lambda kind: len(kind.presets))  # a class has those of its subclasses too


def read_config(folder: Path) -> dict[str, Any]:
    """What the `config.json` of a folder holds; raises OptionError where there is none."""
    file = folder / "config.json"
    if not file.is_file():
        raise OptionError(
            f"{folder} has no config.json: it is no preset. Expected a folder of keras_hub's save_to_preset "
            "or of transformers' save_pretrained"
        )
    with as_damaged(file):
        said: dict[str, Any] = files.read_json(file)
    if not isinstance(said, dict):
        raise OptionError(f"{file} is damaged: it holds no JSON object")
    return said


@contextlib.contextmanager
def as_damaged(file: Path) -> Iterator[None]:
    """Raise OptionError, which names a JSON file, where its values are not what is expected."""
    try:
        yield
    except FastclsError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise OptionError(f"{file} is damaged: {type(error).__name__}: {first_line(error)}") from error


def _require_family(hub: Any, name: str, kind: Any) -> None:
    """Raise OptionError for a backbone that cannot be opened, or has presets and none of images."""
    if kind.__name__ in REFUSED:
        raise OptionError(
            f"{name} is a {kind.__name__}, {REFUSED[kind.__name__]}. Take a base that was made to give "
            "features of images: `fastcls bases` lists families"
        )
    own = getattr(kind, "presets", {}).keys()
    if own and not own & hub.layers.ImageConverter.presets.keys():
        raise OptionError(_explain_no_images(name, kind))


def _explain_no_images(name: str, kind: type) -> str:
    return (
        f"{name} is a {kind.__name__}, which does not take images. `fastcls bases` lists families that take "
        "them"
    )


def _require_square(name: str, model: Any, size: tuple[int, int] | None) -> None:
    """Raise OptionError where keras_hub takes the root of the number of tokens for both sides of a map."""
    if type(model).__name__ in _SQUARE and size and size[0] != size[1]:
        raise OptionError(f"{name} takes square images only. Received: size={size}")


def _require_whole_patches(name: str, model: Any, size: tuple[int, int] | None) -> None:
    """Raise OptionError where patches would leave out the border of the images."""
    patch = getattr(model, "patch_size", None)
    sides = patch if isinstance(patch, (tuple, list)) else (patch, patch)
    if not patch or tuple(model.inputs[0].shape[1:3]) != size:
        return
    if any(length % side for length, side in zip(size, sides, strict=True)):
        below = [length // side * side for length, side in zip(size, sides, strict=True)]
        above = [length + side for length, side in zip(below, sides, strict=True)]
        near = " or ".join("x".join(map(str, each)) for each in (below, above) if all(each))
        raise OptionError(
            f"{name} divides images into patches of {sides[0]}x{sides[1]} pixels. Received: "
            f"size={size}. Choose a multiple, such as {near}"
        )


def _require_size(name: str, model: Any, size: tuple[int, int] | None, own: tuple[int, int] | None) -> None:
    """Raise OptionError where keras_hub has made a model for another size than that of its images."""
    made = tuple(model.inputs[0].shape[1:3]) if graph.is_functional(model) else ()
    if size and size != own and made and None not in made and made != size:
        asked, left = ("x".join(map(str, sides)) for sides in (size, own or made))
        raise OptionError(
            f"{name} takes images of {left}, and keras_hub cannot make it for {asked}. Leave --size out, or "
            "try a square"
        )


def _to_the_deepest(model: Any) -> Any:
    """A model of one output: of several, as of stages, the one that the most operations lead to."""
    import keras

    if not graph.is_functional(model) or len(model.outputs) == 1:
        return model

    def depth(place: int) -> tuple[int, int]:  # one layer may give all stages: the last one is the smallest
        output = model.outputs[place]
        operations = graph.operations_between(model.inputs, [output])
        return len(operations), -math.prod(output.shape[1:-1])

    deepest = max(range(len(model.outputs)), key=depth)
    return keras.Model(model.inputs, model.outputs[deepest])


def _load(hub: Any, preset: str, size: tuple[int, int] | None, *, with_weights: bool) -> Any:
    folder = Path(preset)
    if folder.is_dir():
        config = read_config(folder)
        with as_damaged(folder / "config.json"):
            if is_tower(config):
                return read_tower(hub, folder, config, size, with_weights=with_weights)
            if with_weights and "model_type" in config:  # of Hugging Face
                _require_all_blocks(folder, config)
    return load_backbone(hub, preset, size, with_weights=with_weights)


def _require_all_blocks(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise OptionError for weights that are damaged, or of more blocks than keras_hub would read."""
    names = tensor_names(folder)
    for prefix, part in (("", config), ("vision_model.", config.get("vision_config") or {})):
        blocks = (_BLOCK.search(name) for name in names if name.startswith(prefix))
        found = {block[1] for block in blocks if block}
        said = part.get("num_hidden_layers")
        if said is not None and found and len(found) != said:
            raise OptionError(
                f"{folder / 'config.json'} has num_hidden_layers={said!r}, and the weights beside it are of "
                f"{len(found)} layers. Take both from the same model"
            )


def load_backbone(hub: Any, preset: str, size: tuple[int, int] | None = None, *, with_weights: bool) -> Any:
    """A backbone that takes images of a size, if it can; keras_hub downloads a preset that is no folder."""
    shape = {"image_shape": (*size, 3)} if size else {}
    errors = []
    # Not all have such an option, or positions for another size.
    for options in (shape, {}) if shape else ({},):
        try:
            return hub.models.Backbone.from_preset(preset, load_weights=with_weights, **options)
        except Exception as error:  # keras_hub, and what it downloads with, raise errors of many classes
            errors.append(error)
    remedy = (
        "Its config.json is damaged, or of a family that is not converted: see docs/transformers.md"
        if Path(preset).is_dir()
        else "It is downloaded when it is first used; some must be accepted on their page before"
    )
    raise OptionError(
        f"keras_hub cannot load the preset {preset!r}: {first_line(errors[-1]).rstrip('.')}. {remedy}"
    ) from errors[-1]


def _read_converter(hub: Any, preset: str) -> Preset:
    """What a preset says of its images, without a model."""
    if Path(preset).is_dir() and not (Path(preset) / "image_converter.json").exists():
        return Preset(None, None, None)
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except Exception:  # the preset has none, or there is no preset: that is said when its model is loaded
        converter = None
    if converter is None:
        return Preset(None, None, None)
    size = converter.image_size
    known = size if size and None not in size else None
    return Preset(None, known, _normalization(converter.scale, converter.offset))


def _read_folder(folder: Path) -> Preset | None:
    """What a folder of Hugging Face says of its images, without a model; None for any other folder.

    Raises:
        OptionError: Its file is damaged.
    """
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        return None
    with as_damaged(file):
        said = files.read_json(file)
        sides = said.get("crop_size") or said.get("size")
        sides = {"height": sides, "width": sides} if isinstance(sides, int) else sides or {}
        size = (sides["height"], sides["width"]) if {"height", "width"} <= sides.keys() else None
        crop = _crop(said, size)
        scale = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1.0
        moments = [(0.0,), (1.0,)]
        if said.get("do_normalize", True):
            moments = [said["image_mean"], said["image_std"]]
        # Of levels 0-255, without the last digits of a product.
        means, deviations = ([float(f"{float(value) / scale:.9g}") for value in each] for each in moments)
    return Preset(None, size, ",".join(repr(value) for value in [*means, *deviations]), crop)


def _crop(said: Mapping[str, Any], size: tuple[int, int] | None) -> Fraction:
    """The share of an image's shorter side that is left by the center crop of a preprocessor."""
    resized = said.get("size")
    if isinstance(resized, Mapping):
        resized = resized.get("shortest_edge") or min(resized.get("height", 0), resized.get("width", 0))
    if size is None or not said.get("do_center_crop", "crop_size" in said) or not resized:
        return Fraction(1)
    return min(Fraction(min(size), int(resized)), Fraction(1))


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

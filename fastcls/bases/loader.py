"""Bases by name, from a file, or from a function: a Keras model and what it expects as input."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import graph
from fastcls.backend import import_keras, reproducible_build
from fastcls.bases.hub import is_preset, read_preset
from fastcls.bases.model_files import first_line, looks_like_file, read_model
from fastcls.bases.opening.foreign import open_layers
from fastcls.bases.registry import ARCHITECTURES, Architecture, build, find_architecture
from fastcls.bases.stored_weights import stored_weights_only
from fastcls.bases.weights import copy_leading_weights, count_classes, load_weights
from fastcls.errors import OptionError, closest
from fastcls.files import PathLike
from fastcls.specs import NAMED_WEIGHTS, BaseSpec

# First operations of a model that takes pixels 0-255 and normalizes them itself.
_NORMALIZING = ("Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "Add")

# ITU-R BT.601, as OpenCV and Pillow make gray of RGB; they sum to 1.
_LUMA = (0.299, 0.587, 0.114)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """A base model and what it expects as input.

    Attributes:
        name: How the user called it.
        model: Flat functional Keras model, normalized (B, H, W, 3) float32 -> anything.
        size: (height, width) in pixels.
        normalize: What happens to pixels before `model`, as `BaseSpec.normalize` says it.
        prefix_tokens: Of a base that makes tokens: how many come before those of the patches, such as a class
            token; None where that is not known.
        crop: Share of the middle of an image that it is shown with `--resize crop`; see `Resizing`.
    """

    name: str
    model: Any
    size: tuple[int, int]
    normalize: str
    prefix_tokens: int | None = None
    crop: Fraction = Fraction(1)


def load_base(
    base: BaseSpec | PathLike,
    *,
    weights: PathLike | None = None,
    size: tuple[int, int] | None = None,
    normalize: str | None = None,
    include_top: bool = False,
) -> Base:
    """Build or load a base.

    Args:
        base: Its name or file, as `BaseSpec` takes it; or a `BaseSpec`, which says all of the rest.
        weights: "imagenet", "random" or a weights file; None for the base's own. See `BaseSpec`.
        size: (height, width) in pixels; None for the base's own.
        normalize: How pixels 0-255 become the base's input; None for the base's own. See `BaseSpec`.
        include_top: Keep the classifier of a base that `fastcls bases` lists.

    Raises:
        OptionError: The name, weights, size or normalization is unknown or does not fit, or is given beside
            a `BaseSpec`.
    """
    spec = _as_spec(base, weights, size, normalize, include_top)
    import_keras()
    architecture = find_architecture(spec.name)
    return _load_named_base(spec, architecture) if architecture else _load_user_base(spec)


def load_without_download(spec: BaseSpec) -> tuple[Base, bool]:
    """Load a base; with random weights where Keras would have to download its own: a look at its shapes.

    Returns:
        The base, and whether its weights are its own.

    Raises:
        OptionError: See `load_base`.
    """
    with stored_weights_only() as missing:
        try:
            return load_base(spec), True
        except OptionError:
            if not missing:
                raise
    return load_base(replace(spec, weights="random")), False


def _as_spec(
    base: BaseSpec | PathLike,
    weights: PathLike | None,
    size: tuple[int, int] | None,
    normalize: str | None,
    include_top: bool,
) -> BaseSpec:
    if not isinstance(base, BaseSpec):
        return BaseSpec(base, weights, size, normalize, include_top)
    if (weights, size, normalize, include_top) != (None, None, None, False):
        raise OptionError(
            "Options of a base are fields of its BaseSpec. Set weights, size and the others there"
        )
    return base


def is_function(name: str) -> bool:
    """Whether a base is given as "module:function"."""
    module, _, function = name.partition(":")
    named = bool(module and function.isidentifier()) and not is_preset(name)
    return named and not Path(name).exists()


def import_function(name: str) -> Callable[..., Any]:
    """The function of "module:function"; the working folder is searched first, as `python -m` does.

    Raises:
        OptionError: There is no such module or function, or the module fails.
    """
    module, _, function = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the user's module raises
        raise OptionError(
            f"Cannot import {name!r}: {type(error).__name__}: {error}. Expected module:function"
        ) from error
    return found


def _load_named_base(spec: BaseSpec, architecture: Architecture) -> Base:
    size = spec.size or (architecture.side, architecture.side)
    weights = spec.weights or "imagenet"
    if weights == "imagenet" and not architecture.is_keras:
        raise OptionError(_explain_missing_weights(spec.name, architecture))
    if weights in NAMED_WEIGHTS:
        named = weights if weights == "imagenet" else None
        model = build(architecture, size, named, include_top=spec.include_top)
    else:
        model = _load_from_file(spec, architecture, size, Path(weights))
    return Base(
        spec.name, model, size, _normalization(spec.name, model, spec.normalize, architecture.normalize)
    )


def _explain_missing_weights(name: str, architecture: Architecture) -> str:
    start = f"There are no weights of {name} to download. "
    if not architecture.published:
        return f"{start}Give a file of your own with --weights PATH, or say --weights random"
    sources = " or ".join(architecture.published)
    plain = architecture.name.lower()
    return (
        f"{start}Convert those of {sources} with: fastcls import-weights {plain} FILE, and give "
        f"--weights {plain}.weights.h5; or say --weights random"
    )


def _load_from_file(spec: BaseSpec, architecture: Architecture, size: tuple[int, int], path: Path) -> Any:
    model = build(architecture, size, None, include_top=spec.include_top)
    try:
        load_weights(model, path, spec.name)
    except OptionError as mismatch:
        if not path.is_file():
            raise
        # Perhaps the file also holds the classifier, for as many classes as its maker had.
        side = (architecture.side, architecture.side)
        try:
            classes = count_classes(path, build(architecture, side, None, include_top=False))
            whole_size = size if spec.include_top else side
            whole = build(architecture, whole_size, None, include_top=True, classes=classes)
            load_weights(whole, path, spec.name)
        except OptionError:
            raise mismatch from None
        if spec.include_top:
            return whole
        copy_leading_weights(whole, model)
    return model


def _load_user_base(spec: BaseSpec) -> Base:
    if spec.include_top:
        raise OptionError(
            "Only the bases that `fastcls bases` lists come with and without their classifier; "
            f"{spec.name} is taken as it is. Leave --include-top out"
        )
    if is_preset(spec.name):
        return _load_preset(spec)
    model = _find_user_model(spec.name)
    size = _input_size(spec, model)
    if spec.weights in NAMED_WEIGHTS:
        raise OptionError(
            f"Only the bases that `fastcls bases` lists have weights {spec.weights!r}; "
            f"{spec.name} has its own. Remove --weights, or pass a file"
        )
    return _opened_base(spec, model, size)


def _load_preset(spec: BaseSpec) -> Base:
    if spec.weights == "imagenet":
        raise OptionError(f"{spec.name} has its own weights. Remove --weights imagenet")
    with warnings.catch_warnings():  # of what keras_hub does, such as Swin's masks that are none of Keras's
        warnings.filterwarnings("ignore", category=UserWarning, module="keras")
        preset = read_preset(spec.name, with_weights=spec.weights is None, size=spec.size)
        size = _input_size(replace(spec, size=spec.size or preset.size), preset.model)
        return replace(_opened_base(spec, preset.model, size, preset.normalize), crop=preset.crop)


def _opened_base(spec: BaseSpec, model: Any, size: tuple[int, int], normalize: str | None = None) -> Base:
    """A base of a user's model, with other weights if there are any.

    Args:
        spec: What was asked for.
        model: Keras model.
        size: (height, width) in pixels.
        normalize: How its pixels are normalized, where that is known.
    """
    functional = model if graph.is_functional(model) else _trace(spec.name, model, size)
    if spec.weights not in (None, "random"):  # before it is flat: some of it is copied
        load_weights(model, Path(str(spec.weights)), spec.name)
    flat, prefix_tokens = _flatten(spec.name, functional, size)
    normalize = _normalization(spec.name, flat, spec.normalize, normalize)
    return Base(spec.name, flat, size, normalize, prefix_tokens)


def _find_user_model(name: str) -> Any:
    if is_function(name):
        return _call_function(name)
    if looks_like_file(name):
        return read_model(Path(name))
    raise OptionError(
        f"Unknown base: {name!r}. The closest names are {closest(name, ARCHITECTURES)}; "
        "`fastcls bases` lists all. A file (.keras, .h5, SavedModel), module:function or keras_hub:PRESET "
        "also works"
    )


def _call_function(name: str) -> Any:
    import keras

    function = import_function(name)
    with reproducible_build():
        try:
            model = function()
        except Exception as error:  # whatever the user's function raises
            raise OptionError(f"The function {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(model, keras.Model):
        raise OptionError(f"{name} must return a keras.Model. Received: {type(model).__name__}")
    return model


def _input_size(spec: BaseSpec, model: Any) -> tuple[int, int]:
    shapes: list[Any] = [(None, None, None, 3)]  # a subclassed model does not know what it takes
    if graph.is_functional(model):
        shapes = [tuple(tensor.shape) for tensor in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] not in (1, 3):
        raise OptionError(
            "A base takes one input of RGB images (batch, height, width, 3), or of gray ones with 1 in place "
            f"of 3. {spec.name} takes: {', '.join(map(str, shapes))}"
        )
    height, width = shapes[0][1:3]
    size = spec.size or (height, width)
    if None in size:
        raise OptionError(f"{spec.name} accepts any image size. Choose one with --size HEIGHTxWIDTH")
    if height not in (None, size[0]) or width not in (None, size[1]):
        raise OptionError(
            f"{spec.name} takes images of {height}x{width}. Received: size={size}. Leave --size out"
        )
    return size


def _flatten(name: str, functional: Any, size: tuple[int, int]) -> tuple[Any, int | None]:
    """The same model as one graph of Keras's own layers, and its `Base.prefix_tokens`."""
    import keras

    image = keras.Input((*size, 3), name="input")
    is_gray = functional.inputs[0].shape[-1] == 1
    try:
        graph.rename_apart(graph.operations(functional), taken=["input", "gray"])
        opened = open_layers(functional, _gray(image) if is_gray else image)
        flat = keras.Model(image, opened.output)
        graph.keep_from_heads(flat.operations)
        graph.rename_apart(flat.operations, taken=())
        _require_pixels_everywhere(flat)
    except Exception as error:  # the layers of the user's model decide what they take
        raise OptionError(
            f"{name} cannot take images of {size[0]}x{size[1]} pixels: {first_line(error)}"
        ) from error
    _require_built_in(name, flat, opened.closed)
    return flat, opened.prefix_tokens


def _require_built_in(name: str, model: Any, closed: Mapping[str, str]) -> None:
    foreign = [operation.name for operation in model.operations if not graph.is_built_in(operation)]
    if not foreign:
        return
    named = [f"{layer} ({closed[layer]})" if layer in closed else layer for layer in foreign]
    raise OptionError(
        f"{name} has layers or functions of its own that cannot be said in layers of Keras: "
        f"{', '.join(named)}. Build them of Keras's layers, which then own the weights, and of keras.ops, "
        "without Lambda: only then does the classifier load everywhere"
    )


def _gray(image: Any) -> Any:
    """(B, H, W, 3) -> (B, H, W, 1); levels that are equal in all channels stay as they are."""
    import keras

    layer = keras.layers.Conv2D(1, 1, use_bias=False, trainable=False, name="gray")
    gray = layer(image)
    layer.set_weights([np.reshape(_LUMA, (1, 1, 3, 1))])
    return gray


def _require_pixels_everywhere(model: Any) -> None:
    # Up to Keras 3.12 a kernel larger than its image gives an empty map, and that a mean of not-a-number.
    for node in graph.nodes(model):
        if any(0 in tensor.shape for tensor in node.outputs):
            raise ValueError(f"nothing is left of them after {node.operation.name}")


def _trace(name: str, model: Any, size: tuple[int, int]) -> Any:
    """The functional form of a subclassed model: its `call`, run on a symbolic image, tells its layers."""
    import keras

    image = keras.Input((*size, 3))
    try:
        model(image)  # builds it
        return keras.Model(image, model.call(image))
    except Exception as error:  # whatever the user's code raises
        raise OptionError(
            f"{name} is a subclassed model whose code does not run on symbolic images of "
            f"{size[0]}x{size[1]} pixels: {first_line(error)}. It may use Keras layers and keras.ops only"
        ) from error


def _normalization(name: str, model: Any, given: str | None, known: str | None = None) -> str:
    """What happens to pixels before a model: as the user says, as is known, or nothing where it does it."""
    if given == "none" or (given is None and known):
        return given or str(known)
    inside = _normalizes_itself(model)
    if given is None and not inside:
        raise OptionError(
            f"The normalization of {name} is unknown: the model does not normalize pixels itself. "
            "Set --normalize tf|torch|caffe|none, or MEAN,STD such as 0.5,0.5"
        )
    if given and inside:
        logger.warning(
            "%s normalizes pixels itself, and --normalize %s is applied before that. Leave out --normalize, "
            "unless the model was trained this way",
            name,
            given,
        )
    return given or "none"


def _normalizes_itself(model: Any) -> bool:
    """Whether the first thing that a model does to pixels is to normalize them."""
    for node in graph.nodes(model):
        kind = type(node.operation).__name__
        if kind in _NORMALIZING:
            return True
        # A mean is subtracted after x[..., ::-1], to BGR, or its long form in keras.applications.
        if kind not in ("GetItem", "Stack") and not _keeps_values(model, node):
            return False
    return False


def _keeps_values(model: Any, node: Any) -> bool:
    """Whether an image of one level has that level after a call, borders of zeros aside.

    Augmentation, dropout and noise are for training alone; resizing, cropping and padding move pixels.
    """
    import keras

    until = keras.Model(model.inputs[0], node.outputs[0])
    for level in (90.0, 200.0):
        image = np.full((1, *model.inputs[0].shape[1:]), level, np.float32)
        found = np.asarray(until(image, training=False))
        is_level = np.isclose(found, level, rtol=1e-5)
        if not is_level.any() or not (is_level | (found == 0)).all():
            return False
    return True

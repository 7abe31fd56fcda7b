"""The image towers of CLIP and SigLIP in folders of Hugging Face.

keras_hub has their layers, but no conversion of such folders. Every tensor of a tower goes to one weight and
every weight gets one, or nothing is loaded.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.bases.model_files import first_line
from fastcls.bases.opening.cubic import resize_cubic
from fastcls.errors import OptionError
from fastcls.optional import require

State = dict[str, np.ndarray]
_SHOWN = 5
_WEIGHTS = "model.safetensors"
_FIRST = "embeddings.patch_embedding.weight"
_NUMBERS = "position_ids"  # of positions, which follow from their count


@dataclass(frozen=True)
class _Family:
    """How a tower is built and filled.

    Attributes:
        encoder: Its class in keras_hub.
        defaults: What transformers leaves out of a configuration.
        activations: Those of transformers, as keras_hub calls them.
        prefix_tokens: Tokens before those of the patches.
        names: Layers and variables of the encoder, as the file names them.
        block: The same inside of a block.
    """

    encoder: str
    defaults: Mapping[str, Any]
    activations: Mapping[str, str]
    prefix_tokens: int
    names: Mapping[str, str]
    block: Mapping[str, str]


_SIZES = {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "image_size": 224,
}
_EMBEDDING = {
    "embedding.patch_embedding": "embeddings.patch_embedding",
    "embedding.position_embedding": "embeddings.position_embedding",
}
_CLIP = _Family(
    "CLIPVisionEncoder",
    {**_SIZES, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    {"quick_gelu": "quick_gelu", "gelu": "gelu"},
    1,
    {
        **_EMBEDDING,
        "embedding.class_embedding": "embeddings.class_embedding",
        "pre_layer_norm": "pre_layrnorm",  # misspelled there
        "layer_norm": "post_layernorm",
    },
    {
        **{"attention": "self_attn", "layer_norm_1": "layer_norm1", "layer_norm_2": "layer_norm2"},
        **{"dense_1": "mlp.fc1", "dense_2": "mlp.fc2"},
    },
)
_SIGLIP = _Family(
    "SigLIPVisionEncoder",
    {**_SIZES, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    {"gelu_pytorch_tanh": "gelu_approximate", "gelu": "gelu"},
    0,
    {
        **_EMBEDDING,
        "post_layer_norm": "post_layernorm",
        **{"head.probe": "head.probe", "head.attention": "head.attention"},
        **{"head.layer_norm": "head.layernorm", "head.mlp.fc1": "head.mlp.fc1"},
        "head.mlp.fc2": "head.mlp.fc2",
    },
    {name: name for name in ("self_attn", "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2")},
)
_FAMILIES = {
    **{"clip": _CLIP, "clip_vision_model": _CLIP},
    **{"siglip": _SIGLIP, "siglip_vision_model": _SIGLIP},
}


def is_tower(config: Mapping[str, Any]) -> bool:
    """Whether a folder with this configuration is one of those that are read here."""
    return config.get("model_type") in _FAMILIES


def read_tower(
    hub: Any, folder: Path, config: Mapping[str, Any], size: tuple[int, int] | None, *, with_weights: bool
) -> Any:
    """Build the tower of a folder that sees images.

    Args:
        hub: The module keras_hub.
        folder: With `model.safetensors`, or with its parts and their index.
        config: What its `config.json` holds.
        size: (height, width) of the images; positions are interpolated, as transformers does it. None for
            that of the configuration.
        with_weights: Its own weights instead of random ones.

    Raises:
        OptionError: The configuration is not one that keras_hub's layers are made for, or the file does not
            hold what it says.
    """
    family = _FAMILIES[config["model_type"]]
    said = {**family.defaults, **(config.get("vision_config") or config)}
    _require_known(folder, family, said)
    side = int(said["image_size"])
    try:
        tower = getattr(hub.models, family.encoder)(
            patch_size=said["patch_size"],
            hidden_dim=said["hidden_size"],
            num_layers=said["num_hidden_layers"],
            num_heads=said["num_attention_heads"],
            intermediate_dim=said["intermediate_size"],
            intermediate_activation=family.activations[said["hidden_act"]],
            image_shape=(*(size or (side, side)), 3),
        )
    except (TypeError, ValueError) as error:
        raise OptionError(f"keras_hub cannot build the model of {folder}: {first_line(error)}") from error
    places = tower.embedding.position_ids
    places.assign(np.arange(places.shape[1])[None])
    if with_weights:
        _fill(tower, family, _read_state(folder), folder)
    return tower


def _require_known(folder: Path, family: _Family, said: Mapping[str, Any]) -> None:
    epsilon = family.defaults["layer_norm_eps"]
    if said["hidden_act"] not in family.activations or not math.isclose(said["layer_norm_eps"], epsilon):
        expected = f"hidden_act {' or '.join(family.activations)} and layer_norm_eps {epsilon}"
        raise OptionError(
            f"{folder / 'config.json'} has hidden_act={said['hidden_act']!r} and "
            f"layer_norm_eps={said['layer_norm_eps']}. keras_hub's {family.encoder} has {expected} only"
        )


def _read_state(folder: Path) -> State:
    """The tensors of the tower as float32, without the prefix of their names."""
    safetensors = require("safetensors", purpose="Reading a folder of Hugging Face")
    state: State = {}
    prefix = _prefix(safetensors, folder)
    for path in _weight_files(folder):
        with _open(safetensors, path) as file:
            names = [name for name in list(file.keys()) if not name.endswith(_NUMBERS)]
            own = [name for name in names if name.startswith(prefix)]
            state |= {name.removeprefix(prefix): file.get_tensor(name).astype(np.float32) for name in own}
    return state


def _prefix(safetensors: Any, folder: Path) -> str:
    """What the names of the tower's tensors begin with."""
    for path in _weight_files(folder):
        with _open(safetensors, path) as file:
            for name in list(file.keys()):
                if name.endswith(_FIRST):
                    return str(name).removesuffix(_FIRST)
    return ""


@contextlib.contextmanager
def _open(safetensors: Any, path: Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            yield file
    except (OSError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise OptionError(f"{path} is damaged: {first_line(error)}") from error


def _weight_files(folder: Path) -> list[Path]:
    """The file of a model, or the several that it is divided into."""
    whole, index = folder / _WEIGHTS, folder / f"{_WEIGHTS}.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise OptionError(f"{folder} has no {whole.name}. Expected the folder of one model, with its weights")
    try:
        parts = sorted({folder / name for name in files.read_json(index)["weight_map"].values()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OptionError(f"{index} is damaged: {type(error).__name__}: {error}") from error
    lacking = [path.name for path in parts if not path.is_file()]
    if lacking:
        raise OptionError(f"{folder} lacks {', '.join(lacking)}, which {index.name} names")
    return parts


def _fill(tower: Any, family: _Family, state: State, folder: Path) -> None:
    """Give a tower its weights.

    Raises:
        OptionError: Tensors are missing, left over, or of another shape.
    """
    wrong = []
    for owner, path, name in _names(tower, family):
        part = attrgetter(path)(owner)
        wanted = part.get_weights() if hasattr(part, "get_weights") else [np.asarray(part)]
        try:
            arrays = [array for array in _arrays(part, name, state) if array is not None]
            if "position_embedding" in path:
                arrays = [_resized(arrays[0], len(wanted[0]), family.prefix_tokens)]
            arrays = [array.reshape(old.shape) for array, old in zip(arrays, wanted, strict=True)]
        except KeyError as error:
            wrong.append(f"{error.args[0]} is missing")
            continue
        except ValueError:
            wrong.append(f"{name} has another shape")
            continue
        if hasattr(part, "set_weights"):
            part.set_weights(arrays)
        else:
            part.assign(arrays[0])
    wrong += [f"{name} has no place" for name in state]
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} more" if wrong[_SHOWN:] else "")
        raise OptionError(
            f"{folder / _WEIGHTS} does not hold the weights of a {family.encoder} of its config.json: {shown}"
        )


def _names(tower: Any, family: _Family) -> Iterator[tuple[Any, str, str]]:
    """What has each layer and variable of a tower, where it has it, and what a file calls it."""
    for path, name in family.names.items():
        yield tower, path, name
    for number, block in enumerate(tower.encoder_layers):
        for path, name in family.block.items():
            yield block, path, f"encoder.layers.{number}.{name}"


def _arrays(part: Any, name: str, state: State) -> list[np.ndarray | None]:
    """The tensors of a layer or variable, taken from a state, in the order and axes of its weights."""
    from keras import layers

    if isinstance(part, layers.MultiHeadAttention):
        return _attention(name, state)
    if not isinstance(part, layers.Layer):
        return [state.pop(name)]
    weight = state.pop(f"{name}.weight")
    if isinstance(part, layers.Conv2D):
        weight = weight.transpose(2, 3, 1, 0)
    elif isinstance(part, layers.Dense):
        weight = weight.T
    return [weight, state.pop(f"{name}.bias", None)]


def _attention(name: str, state: State) -> list[np.ndarray | None]:
    """Kernels and biases of query, key, value and output; PyTorch's own layer has three of them in one."""
    if f"{name}.in_proj_weight" in state:
        for kind in ("weight", "bias"):
            parts = np.split(state.pop(f"{name}.in_proj_{kind}"), 3)
            state |= {f"{name}.{role}_proj.{kind}": part for role, part in zip("qkv", parts, strict=True)}
    found: list[np.ndarray | None] = []
    for role in ("q_proj", "k_proj", "v_proj", "out_proj"):
        found += [state.pop(f"{name}.{role}.weight").T, state.pop(f"{name}.{role}.bias")]
    return found


def _resized(positions: np.ndarray, count: int, prefix_tokens: int) -> np.ndarray:
    """Positions (P + N, C) for another number of patches, of a square; those of other tokens stay."""
    first, patches = positions[:prefix_tokens], positions[prefix_tokens:]
    known, wanted = math.isqrt(len(patches)), math.isqrt(count - prefix_tokens)
    if known == wanted:
        return positions
    grid = resize_cubic(patches.reshape(known, known, -1), (wanted, wanted))
    return np.concatenate([first, grid.reshape(wanted * wanted, -1)])

"""The image towers of CLIP and SigLIP in folders of Hugging Face.

keras_hub has their layers, but no conversion of such folders.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.bases.opening.cubic import resize_cubic
from fastcls.bases.tower_weights import Family, read_tensors, tensor_names

_FIRST = "embeddings.patch_embedding.weight"

_SIZES = {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "image_size": 224,
}
_EMBEDDING = {
    "embedding.patch_embedding": "embeddings.patch_embedding",
    "embedding.position_embedding": "embeddings.position_embedding",
}
_CLIP = Family(
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
_SIGLIP = Family(
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
    side = int(said["image_size"])
    shape = (*(size or (side, side)), 3)
    tower = family.build(hub, folder, said, patch_size=said["patch_size"], image_shape=shape)
    places = tower.embedding.position_ids
    places.assign(np.arange(places.shape[1])[None])
    if with_weights:
        prefix = next((n.removesuffix(_FIRST) for n in tensor_names(folder) if n.endswith(_FIRST)), "")
        tensors = read_tensors(folder, lambda name: name.startswith(prefix))
        state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        family.fill(tower, state, folder, functools.partial(_resized, prefix_tokens=family.prefix_tokens))
    return tower


def _resized(positions: np.ndarray, count: int, prefix_tokens: int) -> np.ndarray:
    """Positions (P + N, C) for another number of patches, of a square; those of other tokens stay."""
    first, patches = positions[:prefix_tokens], positions[prefix_tokens:]
    known, wanted = math.isqrt(len(patches)), math.isqrt(count - prefix_tokens)
    if known == wanted:
        return positions
    grid = resize_cubic(patches.reshape(known, known, -1), (wanted, wanted))
    return np.concatenate([first, grid.reshape(wanted * wanted, -1)])

"""The text towers of CLIP, MetaCLIP 2 and SigLIP: they make a row of a text, beside that of an image.

Of a folder of CLIP or SigLIP of Hugging Face the tower alone is built; keras_hub reads all other presets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.bases.hub import as_damaged, find_preset, is_preset, load_backbone, preset_of, read_config
from fastcls.bases.tokens import Tokenize, folder_tokenizer, preset_tokenizer
from fastcls.bases.tower_weights import Family, read_tensors, refuse, tensor_names
from fastcls.errors import OptionError
from fastcls.optional import require

_BATCH = 64  # texts
_SIZES = {
    **{"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8},
    **{"vocab_size": 49408, "max_position_embeddings": 77, "hidden_act": "quick_gelu"},
}
_EMBEDDING = {
    "embedding.token_embedding": "embeddings.token_embedding",
    "embedding.position_embedding": "embeddings.position_embedding",
}
_CLIP = Family(
    "CLIPTextEncoder",
    {**_SIZES, "layer_norm_eps": 1e-5, "eos_token_id": 49407},
    {"quick_gelu": "quick_gelu", "gelu": "gelu"},
    0,
    {**_EMBEDDING, "layer_norm": "final_layer_norm"},
    {
        **{"attention": "self_attn", "layer_norm_1": "layer_norm1", "layer_norm_2": "layer_norm2"},
        **{"dense_1": "mlp.fc1", "dense_2": "mlp.fc2"},
    },
)
_SIGLIP = Family(
    "SigLIPTextEncoder",
    {
        **_SIZES,
        **{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "vocab_size": 32000},
        **{"max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
    },
    {"gelu_pytorch_tanh": "gelu_approximate", "gelu": "gelu"},
    0,
    {**_EMBEDDING, "post_layer_norm": "final_layer_norm", "head": "head"},
    {name: name for name in ("self_attn", "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2")},
)
# Family, and the tensors beside its towers, by `model_type`.
_FAMILIES: dict[str, tuple[Family, Sequence[str]]] = {
    "clip": (_CLIP, ("logit_scale", "text_projection.weight", "visual_projection.weight")),
    "siglip": (_SIGLIP, ("logit_scale", "logit_bias")),
}
# What transformers wrote for years, wrongly: the end is then the token of the highest number.
_LEGACY_END = 2
# CLIP's layer norms are of 1e-5; keras_hub's text encoder ends with one of 1e-6.
_CLIP_EPSILON = 1e-5
_LEAST_LENGTH = 1e-12


@dataclass(frozen=True, eq=False)
class Matched:
    """A text tower with its weights, and what makes of an image's bottleneck a row to compare with.

    Attributes:
        encode: Token ids (N, L) -> rows (N, D), of any length.
        scale: What a cosine is multiplied by.
        bias: What is added to that.
        projection: (F, D) of bottlenecks (B, F) to rows (B, D); None where they are such rows.
        norm: Gamma and beta (F,) of a layer norm before that, and its epsilon; None for none.
    """

    encode: Callable[[np.ndarray], np.ndarray]
    scale: float
    bias: float = 0.0
    projection: np.ndarray | None = None
    norm: tuple[np.ndarray, np.ndarray, float] | None = None

    def compared(self, bottlenecks: np.ndarray) -> np.ndarray:
        """Bottlenecks (B, F) -> rows (B, D) float32 at length 1."""
        rows = bottlenecks
        if self.norm:
            gamma, beta, epsilon = self.norm
            centered = rows - rows.mean(axis=1, keepdims=True)
            deviation = np.sqrt((centered**2).mean(axis=1, keepdims=True) + epsilon)
            rows = centered / deviation * gamma + beta
        if self.projection is not None:
            rows = rows @ self.projection
        return _at_unit_length(rows)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Token ids (N, L) -> rows (N, D) float32 at length 1."""
        parts = [self.encode(ids[start : start + _BATCH]) for start in range(0, len(ids), _BATCH)]
        return _at_unit_length(np.concatenate(parts).astype(np.float32))


def _at_unit_length(rows: np.ndarray) -> np.ndarray:
    """Rows at length 1, as Keras's UnitNormalization makes them; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _LEAST_LENGTH)


@dataclass(frozen=True)
class TextTower:
    """A text tower before its weights are read.

    Attributes:
        template: The prompt of a class that is its family's habit, with {} for the name.
        layer: The cut whose bottlenecks its rows are compared with.
        pool: What becomes of their positions.
        tokenize: Texts -> token ids (N, L); raises OptionError for one that is too long.
        load: Reads the weights; raises OptionError where they are not what is expected.
    """

    template: str
    layer: str
    pool: str
    tokenize: Tokenize
    load: Callable[[], Matched]


# The classes of keras_hub, by `model_type` of Hugging Face.
_KINDS = {"clip": "CLIPBackbone", "metaclip_2": "MetaCLIP2Backbone", "siglip": "SigLIPBackbone"}
_TEMPLATES = {
    # https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb
    "CLIPBackbone": "a photo of a {}.",
    "MetaCLIP2Backbone": "a photo of a {}.",
    # The card of google/siglip-base-patch16-224, and the pipeline of transformers.
    "SigLIPBackbone": "This is a photo of {}.",
}


def open_text_tower(base: str) -> TextTower:
    """Find the text tower of a base, without reading its weights.

    Args:
        base: "keras_hub:PRESET", as `BaseSpec.name` has it.

    Raises:
        MissingExtraError: keras_hub is not installed.
        OptionError: The base has no text tower, or lacks what it needs.
    """
    if not is_preset(base):
        raise OptionError(_explain(base))
    hub = require("keras_hub", purpose="A base keras_hub:PRESET", extra="hub")
    preset = preset_of(base)
    kind = getattr(find_preset(hub, preset), "__name__", "")
    config = read_config(Path(preset)) if Path(preset).is_dir() else {}
    if config.get("model_type") in ("clip_vision_model", "siglip_vision_model"):
        raise OptionError(f"{preset} holds the part that sees images alone. Take a folder of the whole model")
    kind = kind or _KINDS.get(str(config.get("model_type")), "")
    if kind not in _TEMPLATES:
        raise OptionError(_explain(base))
    places = {"CLIPBackbone": ("layer_norm", "cls"), "SigLIPBackbone": ("head", "none")}
    with as_damaged(Path(preset) / "config.json"):
        if config.get("model_type") in _FAMILIES:
            tokenize, load = _open_folder(hub, Path(preset), config)
            return TextTower(_TEMPLATES[kind], *places[kind], tokenize, load)
        tokenize = _preset_tokens(hub, preset, kind, config)
    layer, pool = places.get(kind) or (f"block_{_count_blocks(hub, preset, config) - 1}", "cls")
    return TextTower(_TEMPLATES[kind], layer, pool, tokenize, functools.partial(_load_preset, hub, preset))


def _explain(base: str) -> str:
    return (
        f"{base} has no text tower: it cannot tell classes by their names. Take CLIP, MetaCLIP 2 or SigLIP, "
        "such as keras_hub:clip_vit_base_patch16 or keras_hub:siglip2_base_patch16_224"
    )


def _said(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    return {**family.defaults, **(config.get("text_config") or {})}


# A folder of Hugging Face


def _open_folder(hub: Any, folder: Path, config: Mapping[str, Any]) -> tuple[Tokenize, Any]:
    family, others = _FAMILIES[config["model_type"]]
    said = _said(family, config)
    family.require_known(folder, said)
    if not any(name.startswith("text_model.") for name in tensor_names(folder)):
        raise OptionError(f"{folder} holds no text tower. Take the folder of the whole model")
    tokenize = folder_tokenizer(
        folder,
        said["max_position_embeddings"],
        said["vocab_size"],
        family=config["model_type"],
        end=None if family is _SIGLIP or said["eos_token_id"] == _LEGACY_END else said["eos_token_id"],
    )
    return tokenize, functools.partial(_load_folder, hub, folder, family, others, said)


def _load_folder(
    hub: Any, folder: Path, family: Family, others: Iterable[str], said: Mapping[str, Any]
) -> Matched:
    tower = _build(hub, folder, family, said)
    tensors = read_tensors(folder, lambda name: not name.startswith("vision_model."))
    state = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    refuse(folder, family.encoder, [f"{name} is missing" for name in others if name not in state])
    own = {name: state.pop(name) for name in others}
    family.fill(tower, state, folder)
    scale, bias = float(np.exp(own["logit_scale"]).item()), own.get("logit_bias", np.zeros(1))
    if family is _SIGLIP:
        return Matched(lambda ids: np.asarray(tower({"token_ids": ids})), scale, float(bias.item()))
    tower.layer_norm.epsilon = _CLIP_EPSILON
    projection, end = own["text_projection.weight"].T, said["eos_token_id"]

    def encode(ids: np.ndarray) -> np.ndarray:
        tokens = np.asarray(tower({"token_ids": ids}))
        return tokens[np.arange(len(ids)), _ends(ids, end)] @ projection

    return Matched(encode, scale, projection=own["visual_projection.weight"].T)


def _build(hub: Any, folder: Path, family: Family, said: Mapping[str, Any]) -> Any:
    width = said["hidden_size"]
    projected = {"projection_dim": said.get("projection_size") or width} if family is _SIGLIP else {}
    return family.build(
        *(hub, folder, said),
        vocabulary_size=said["vocab_size"],
        embedding_dim=width,
        max_sequence_length=said["max_position_embeddings"],
        **projected,
    )


def _ends(ids: np.ndarray, end: int) -> np.ndarray:
    """Where each text ends, as transformers finds it: (N,)."""
    return ids.argmax(axis=1) if end == _LEGACY_END else (ids == end).argmax(axis=1)


# A preset that keras_hub reads


def _preset_tokens(hub: Any, preset: str, kind: str, config: Mapping[str, Any]) -> Tokenize:
    said = config.get("text_config")
    if said:  # a folder of Hugging Face
        most, words = said.get("max_position_embeddings", 77), said["vocab_size"]
        end = said.get("eos_token_id", _LEGACY_END)
        return folder_tokenizer(Path(preset), most, words, family=config["model_type"], end=end)
    return preset_tokenizer(hub, preset, kind.removesuffix("Backbone"))


def _count_blocks(hub: Any, preset: str, config: Mapping[str, Any]) -> int:
    """Blocks of the part that sees images."""
    try:
        if "vision_config" in config:  # of Hugging Face
            return int(config["vision_config"]["num_hidden_layers"])
        if config:
            return int(config["config"]["vision_encoder"]["config"]["num_layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise OptionError(
            f"{preset}/config.json is damaged: it does not tell how many blocks see images ({error!r})"
        ) from error
    return len(load_backbone(hub, preset, with_weights=False).vision_encoder.encoder_layers)


def _load_preset(hub: Any, preset: str) -> Matched:
    model = load_backbone(hub, preset, with_weights=True)
    kind = type(model).__name__

    def encode(ids: np.ndarray) -> np.ndarray:
        return np.asarray(model.get_text_embeddings(ids))

    def value(variable: Any) -> float:
        return float(np.asarray(variable).item())

    if kind == "SigLIPBackbone":
        head = model.siglip_head
        return Matched(encode, float(np.exp(value(head.logit_scale))), value(head.logit_bias))
    projection, norm = np.asarray(model.vision_projection.kernel), None
    if kind == "CLIPBackbone":
        head, model.text_encoder.layer_norm.epsilon = model.clip_head, _CLIP_EPSILON
    else:
        head, layer = model.metaclip_2_head, model.vision_post_layer_norm
        norm = (np.asarray(layer.gamma), np.asarray(layer.beta), layer.epsilon)
    return Matched(encode, float(np.exp(value(head.logit_scale))), 0.0, projection, norm)

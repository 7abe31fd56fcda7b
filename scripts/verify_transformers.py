"""Compare the opened transformers of keras_hub with those of the transformers package.

    pip install 'fastcls[hub]' torch transformers
    python scripts/verify_transformers.py [FAMILY...]

Each model of transformers gets random weights and is saved to a folder. `keras_hub:FOLDER` is loaded as any
base is. Both see the same images: their tokens after each block, and at the end, are compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from fastcls.bases.loader import load_base
from fastcls.cutter import cut
from fastcls.evaluation.text_table import format_table
from fastcls.specs import BaseSpec

LIMIT = 1e-4
SIDE, BLOCKS = 32, 3
RESIZED = ("clip", "dino", "siglip")  # that take images of another size
_SHAPE: dict[str, Any] = {
    **{"hidden_size": 32, "num_hidden_layers": BLOCKS, "num_attention_heads": 4},
    **{"intermediate_size": 48, "image_size": SIDE, "patch_size": 8},
}
_TEXT: dict[str, Any] = {
    **_SHAPE,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "eos_token_id": 2,
    "bos_token_id": 1,
}


def _tower(config: Any, model: Any) -> Any:
    return lambda: model(config(vision_config=_SHAPE, text_config=_TEXT, projection_dim=32))


# Name -> a model of random weights. Of ViT and DeiT keras_hub reads folders of classifiers alone.
MODELS: dict[str, Callable[[], Any]] = {
    "vit": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**_SHAPE)),
    "deit": lambda: transformers.DeiTForImageClassificationWithTeacher(transformers.DeiTConfig(**_SHAPE)),
    "dinov2": lambda: transformers.Dinov2Model(transformers.Dinov2Config(mlp_ratio=2, **_SHAPE)),
    "dinov2 with registers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(mlp_ratio=2, use_swiglu_ffn=True, **_SHAPE)
    ),
    "dinov3": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(num_register_tokens=4, **_SHAPE)
    ),
    "dinov3 gated": lambda: transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(num_register_tokens=4, use_gated_mlp=True, hidden_act="silu", **_SHAPE)
    ),
    "clip": _tower(transformers.CLIPConfig, transformers.CLIPModel),
    "clip, its vision model": lambda: transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(hidden_act="gelu", **_SHAPE)
    ),
    "siglip": lambda: transformers.SiglipModel(
        transformers.SiglipConfig(vision_config=_SHAPE, text_config=_TEXT)
    ),
    "siglip, its vision model": lambda: transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(**_SHAPE)
    ),
    "metaclip 2": _tower(transformers.MetaClip2Config, transformers.MetaClip2Model),
}


def main() -> None:
    """Compare, print a table, exit 1 if any family differs."""
    parser = argparse.ArgumentParser(description="Compare opened transformers with their originals.")
    parser.add_argument("families", nargs="*", choices=[[], *MODELS], help="which ones (all)")
    rows = [["family", "image size", "blocks", "last tokens", ""]]
    for name in parser.parse_args().families or MODELS:
        for side in (SIDE, 48) if name.startswith(RESIZED) else (SIDE,):
            blocks, end = compare(name, side)
            verdict = "equal" if max(blocks, end) < LIMIT else "DIFFERS"
            rows.append([name, f"{side}x{side}", f"{blocks:.1e}", f"{end:.1e}", verdict])
    print(format_table(rows))
    sys.exit(any(row[-1] == "DIFFERS" for row in rows))


def compare(name: str, side: int = SIDE) -> tuple[float, float]:
    """Largest difference of the tokens, over the largest token: after a block, and at the end."""
    torch.manual_seed(0)
    original = MODELS[name]().eval()
    with torch.no_grad():
        for weight in original.parameters():
            weight.normal_(0, 0.2)
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        original.save_pretrained(folder)
        base = load_base(BaseSpec(f"keras_hub:{folder}", size=(side, side), normalize="torch"))
    hidden, last = _tokens(original, images)
    blocks = [cut(base, f"block_{number}").trunk(images) for number in range(BLOCKS)]
    errors = [_error(*pair) for pair in zip(blocks, hidden[1:], strict=True)]
    end = np.asarray(base.model(images))
    return max(errors), _error(end if end.shape == last.shape else end[:, 0], last)


def _tokens(original: Any, images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Tokens before the first block and after each, and the last ones."""
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    parts = [getattr(original, part, None) for part in ("vit", "deit", "vision_model")]
    vision = next(filter(None, parts), original)
    with torch.no_grad():
        options = {"interpolate_pos_encoding": True} if "lip" in type(original).__name__.lower() else {}
        found = vision(pixel_values=pixels, output_hidden_states=True, **options)
    # keras_hub's CLIP normalizes all tokens at the end, the original that of the class alone, and
    # keras_hub's SigLIP ends with the pooled ones.
    is_pooled = type(original).__name__.startswith(("CLIP", "Siglip"))
    last = found.pooler_output if is_pooled else found.last_hidden_state
    return [tokens.numpy() for tokens in found.hidden_states], last.numpy()


def _error(received: Any, expected: np.ndarray) -> float:
    return float(np.abs(np.asarray(received) - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main()

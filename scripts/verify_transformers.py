"""Compare the opened transformers of keras_hub with those of the transformers package.

    pip install 'fastcls[hub]' torch transformers
    python scripts/verify_transformers.py [FAMILY...]

Each model of transformers gets random weights and is saved to a folder. `keras_hub:FOLDER` is loaded as any
base is. Both see the same images: their tokens after each block, and at the end, are compared.

Of models of images and texts the classifiers of `--head text` are compared too: their probabilities, from
photos through extraction, training and prediction, with those of `logits_per_image`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tokenizers
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


# Family, what is asked of an image -> a model of random weights, and what ends its texts.
_LETTERS = [*"abcdefghijklmnopqrstuvwxyz ."]
_WORDS = ["<s>", "<pad>", "</s>", "<unk>", *_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<end>"]
_END = len(_WORDS) - 1


def _reading(end: int) -> dict[str, Any]:
    own = {"vocab_size": len(_WORDS), "max_position_embeddings": 48, "eos_token_id": end}
    return {**_SHAPE, "hidden_size": 24, **own}


def _clip(end: int, config: Any = transformers.CLIPConfig, model: Any = transformers.CLIPModel) -> Any:
    return lambda: model(config(vision_config=_SHAPE, text_config=_reading(end), projection_dim=20))


def _siglip() -> Any:
    text = {**_reading(2), "hidden_size": _SHAPE["hidden_size"]}
    return transformers.SiglipModel(transformers.SiglipConfig(vision_config=_SHAPE, text_config=text))


# Name -> a model of random weights, the token that ends a text, and whether an image has several labels.
TEXTS: dict[str, tuple[Callable[[], Any], str, bool]] = {
    "clip": (_clip(_END), "<end>", False),
    "clip of old files": (_clip(2), "<end>", False),
    "siglip": (_siglip, "</s>", False),
    "siglip, several labels": (_siglip, "</s>", True),
    "metaclip 2": (_clip(2, transformers.MetaClip2Config, transformers.MetaClip2Model), "</s>", False),
}
NAMES = ("daisy", "rose", "sun_flower")


def main() -> None:
    """Compare, print tables, exit 1 if any family differs."""
    parser = argparse.ArgumentParser(description="Compare opened transformers with their originals.")
    parser.add_argument("families", nargs="*", choices=[[], *MODELS], help="which ones (all)")
    asked = parser.parse_args().families
    rows = [["family", "image size", "blocks", "last tokens", ""]]
    for name in asked or MODELS:
        for side in (SIDE, 48) if name.startswith(RESIZED) else (SIDE,):
            blocks, end = compare(name, side)
            verdict = "equal" if max(blocks, end) < LIMIT else "DIFFERS"
            rows.append([name, f"{side}x{side}", f"{blocks:.1e}", f"{end:.1e}", verdict])
    print(format_table(rows))
    told = [["--head text", "probabilities", ""]]
    for name in TEXTS if not asked else [name for name in TEXTS if name.startswith(tuple(asked))]:
        error = compare_texts(name)
        told.append([name, f"{error:.1e}", "equal" if error < LIMIT else "DIFFERS"])
    print(format_table(told))
    sys.exit(any(row[-1] == "DIFFERS" for row in [*rows, *told]))


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


def compare_texts(name: str) -> float:
    """Largest difference of a probability, of the saved classifier and of `logits_per_image`."""
    make, end, is_several = TEXTS[name]
    torch.manual_seed(0)
    original = make().eval()
    with torch.no_grad():
        for own, weight in original.named_parameters():
            weight.normal_(0, 0.2) if weight.ndim and "logit" not in own else weight.fill_(2.3)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        original.save_pretrained(folder / "model")
        _write_tokenizer(folder / "model", end, starts="siglip" not in name)
        scaled = {"size": SIDE, "crop_size": SIDE, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (folder / "model/preprocessor_config.json").write_text(json.dumps(scaled))
        images = _write_images(folder, is_several)
        found = _classify(folder, images)
        texts = transformers.AutoTokenizer.from_pretrained(folder / "model")
    template = "This is a photo of {}." if "siglip" in name else "a photo of a {}."
    prompts = [template.format(name.replace("_", " ")) for name in NAMES]
    prompts = [prompt.lower() for prompt in prompts]  # as both families have it
    tokens = texts(prompts, padding="max_length", max_length=48, return_tensors="pt")
    pixels = np.stack([*images.values()])[..., ::-1] / 127.5 - 1
    shown = torch.from_numpy(pixels.astype(np.float32).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits = original(input_ids=tokens["input_ids"], pixel_values=shown).logits_per_image
    expected = (logits.sigmoid() if is_several else logits.softmax(1)).numpy()
    return float(np.abs(found - expected).max())


def _write_tokenizer(folder: Path, end: str, *, starts: bool) -> None:
    """A token for each letter."""
    ids = {word: number for number, word in enumerate(_WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    special = [(word, ids[word]) for word in ("<s>", end)]
    template = f"{'<s> ' * starts}$A {end}"
    made.post_processor = tokenizers.processors.TemplateProcessing(single=template, special_tokens=special)
    named = {"pad_token": "<pad>", "eos_token": end, "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **named).save_pretrained(folder)


def _write_images(folder: Path, is_several: bool) -> dict[str, np.ndarray]:
    """Noise of the size that the models take; some have two classes."""
    chance = np.random.default_rng(0)
    images, lines = {}, ["path,labels,split"]
    for number in range(12):
        path = str(folder / f"{number:02}.png")
        images[path] = chance.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        cv2.imwrite(path, images[path])
        more = [NAMES[(number + 1) % 3]] if is_several and number % 2 else []
        labels = json.dumps([NAMES[number % 3], *more]).replace('"', '""')
        lines.append(f'{path},"{labels}",{"val" if number > 8 else "train"}')
    (folder / "images.csv").write_text("\n".join(lines))
    if not is_several:
        plain = [line.replace('"[""', "").replace('""]"', "") for line in lines[1:]]
        (folder / "images.csv").write_text("\n".join(["path,label,split", *plain]))
    return images


def _classify(folder: Path, images: dict[str, np.ndarray]) -> np.ndarray:
    """Probabilities (N, C), by the commands of fastcls: PyTorch and TensorFlow do without each other."""
    base = f"keras_hub:{folder / 'model'}"
    made = ("--cache", folder / "caches", "--precision", "float32")
    _fastcls("extract", folder / "images.csv", "--base", base, *made)
    _fastcls("train-head", folder / "caches", "--head", "text", "--out", folder / "run")
    lines = _fastcls("predict", folder / "run", *images, "--json", "--scores").splitlines()
    answers = [{each["class"]: each["confidence"] for each in json.loads(line)["scores"]} for line in lines]
    return np.array([[answer[name] for name in NAMES] for answer in answers])


def _fastcls(*arguments: Any) -> str:
    command = [sys.executable, "-m", "fastcls", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


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

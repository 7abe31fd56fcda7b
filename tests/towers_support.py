"""Small models of images and texts, in folders as transformers saves them, and their texts in NumPy."""

import json

import numpy as np

WIDTH, SIDE, PATCH = 8, 12, 4
HEADS, LENGTH, PROJECTED = 2, 40, 6
START, END = "<s>", "</s>"
# "_" is what texts are padded with. The end has the highest number, as in CLIP's vocabulary.
VOCABULARY = ["?", "_", START, *"abcdefghijklmnopqrstuvwxyz .T", END]
VISION = {
    **{"hidden_size": WIDTH, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"image_size": SIDE, "patch_size": PATCH},
}


def vision_state(model_type):
    """Random tensors with the names and shapes that transformers gives them."""
    positions = (SIDE // PATCH) ** 2 + (model_type == "clip")
    shapes = {
        "embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": (positions, WIDTH),
        **_norm("post_layernorm"),
    }
    if model_type == "clip":
        shapes |= {"embeddings.class_embedding": (WIDTH,), **_norm("pre_layrnorm")}
    else:
        shapes |= {"embeddings.patch_embedding.bias": (WIDTH,), "head.probe": (1, 1, WIDTH)}
        shapes |= {"head.attention.in_proj_weight": (3 * WIDTH, WIDTH), **_norm("head.layernorm")}
        shapes |= {"head.attention.in_proj_bias": (3 * WIDTH,)}
        shapes |= _dense("head.attention.out_proj", WIDTH, WIDTH)
        shapes |= {**_dense("head.mlp.fc1", WIDTH, 12), **_dense("head.mlp.fc2", 12, WIDTH)}
    return _random("vision_model", {**shapes, **_blocks()})


def text_state(model_type):
    """Those of the part that reads texts, and of what compares both."""
    shapes = {
        "embeddings.token_embedding.weight": (len(VOCABULARY), WIDTH),
        "embeddings.position_embedding.weight": (LENGTH, WIDTH),
        **_norm("final_layer_norm"),
        **(_dense("head", WIDTH, WIDTH) if model_type == "siglip" else {}),
        **_blocks(),
    }
    random = np.random.default_rng(1)
    beside = {"logit_scale": np.log(np.float32([7.0]))}
    if model_type == "siglip":
        return {**_random("text_model", shapes), **beside, "logit_bias": np.float32([-1.5])}
    for name in ("text_projection", "visual_projection"):
        beside[f"{name}.weight"] = random.normal(size=(PROJECTED, WIDTH)).astype("f")
    return {**_random("text_model", shapes), **beside}


def write_model(folder, model_type, *, text=None, **tensors):
    """Write a folder and return its tensors.

    `text` changes the configuration of its texts; of other tensors that are given, None leaves one out.
    """
    from safetensors.numpy import save_file

    reading = {
        **{name: VISION[name] for name in VISION if name not in ("image_size", "patch_size")},
        **{"vocab_size": len(VOCABULARY), "max_position_embeddings": LENGTH},
        **({"eos_token_id": VOCABULARY.index(END)} if model_type == "clip" else {}),
    }
    config = {"model_type": model_type, "vision_config": VISION, "text_config": {**reading, **(text or {})}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    state = {**vision_state(model_type), **text_state(model_type), **tensors}
    state = {name: tensor for name, tensor in state.items() if tensor is not None}
    save_file(state, folder / "model.safetensors")
    write_tokenizer(folder, model_type)
    scaled = {"size": SIDE, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(scaled))
    return state


def write_tokenizer(folder, model_type):
    """A token for each letter, and the end; CLIP's begins with a token of its own."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    ids = {token: number for number, token in enumerate(VOCABULARY)}
    made = Tokenizer(models.WordLevel(ids, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    template = f"{START} $A {END}" if model_type == "clip" else f"$A {END}"
    special = [(token, ids[token]) for token in (START, END)]
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "_"}))


def token_ids(text, model_type):
    """What that tokenizer makes of a text, as the tower of its family takes it."""
    letters = text.lower() if model_type == "siglip" else text
    ids = [VOCABULARY.index(letter if letter in VOCABULARY else "?") for letter in letters]
    ids = [VOCABULARY.index(START)] * (model_type == "clip") + [*ids, VOCABULARY.index(END)]
    return ids + [VOCABULARY.index("_")] * ((LENGTH - len(ids)) * (model_type == "siglip"))


def text_row(state, ids, model_type):
    """The row of a text at length 1, by the formulas of the papers."""
    values = {name.removeprefix("text_model."): tensor.astype(float) for name, tensor in state.items()}
    x = values["embeddings.token_embedding.weight"][ids]
    x = x + values["embeddings.position_embedding.weight"][: len(ids)]
    is_clip = model_type == "clip"
    for number in range(2):
        own = {k.removeprefix(f"encoder.layers.{number}."): v for k, v in values.items()}
        x = x + _attend(own, _normalized(own, "layer_norm1", x, is_clip), is_clip)
        wide = _linear(own, "mlp.fc1", _normalized(own, "layer_norm2", x, is_clip))
        x = x + _linear(own, "mlp.fc2", _activated(wide, is_clip))
    x = _normalized(values, "final_layer_norm", x, is_clip)[-1]
    row = values["text_projection.weight"] @ x if is_clip else _linear(values, "head", x)
    return row / np.linalg.norm(row)


def _linear(values, name, x):
    return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]


def _normalized(values, name, x, is_clip):
    x = x - x.mean(axis=-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + (1e-5 if is_clip else 1e-6))
    return x * values[f"{name}.weight"] + values[f"{name}.bias"]


def _activated(x, is_clip):
    if is_clip:
        return x / (1 + np.exp(-1.702 * x))
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _attend(values, x, is_clip):
    parts = [_linear(values, f"self_attn.{role}_proj", x).reshape(len(x), HEADS, -1) for role in "qkv"]
    scores = np.einsum("qhc,khc->hqk", *parts[:2]) / np.sqrt(parts[0].shape[-1])
    if is_clip:  # a token sees those before it
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hqk,khc->qhc", weights, parts[2]).reshape(len(x), -1)
    return _linear(values, "self_attn.out_proj", mixed)


def _random(prefix, shapes):
    random = np.random.default_rng(0)
    return {f"{prefix}.{name}": random.normal(0, 0.3, shape).astype("f") for name, shape in shapes.items()}


def _dense(name, given, made):
    return {f"{name}.weight": (made, given), f"{name}.bias": (made,)}


def _norm(name):
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def _blocks():
    shapes = {}
    for number in range(2):
        block = f"encoder.layers.{number}"
        for role in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _dense(f"{block}.self_attn.{role}", WIDTH, WIDTH)
        shapes |= {**_norm(f"{block}.layer_norm1"), **_norm(f"{block}.layer_norm2")}
        shapes |= {**_dense(f"{block}.mlp.fc1", WIDTH, 12), **_dense(f"{block}.mlp.fc2", 12, WIDTH)}
    return shapes

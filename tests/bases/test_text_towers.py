"""Text towers of CLIP and SigLIP against their formulas in NumPy, and against keras_hub's own models."""

import json
import re

import numpy as np
import pytest
from towers_support import LENGTH, VOCABULARY, WIDTH, text_row, token_ids, write_model

from fastcls.backend import import_keras
from fastcls.bases.text_towers import open_text_tower
from fastcls.errors import OptionError

import_keras()
TEXTS = ["This is a photo of a fox.", "owl"]


@pytest.fixture(autouse=True)
def packages():
    for name in ("keras_hub", "safetensors.numpy", "tokenizers"):
        pytest.importorskip(name)


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_open_text_tower__rows_are_those_of_the_formulas(model_type, tmp_path):
    state = write_model(tmp_path, model_type)
    tower = open_text_tower(f"keras_hub:{tmp_path}")
    matched = tower.load()
    expected = [text_row(state, token_ids(text, model_type), model_type) for text in TEXTS]
    np.testing.assert_allclose(matched.rows(tower.tokenize(TEXTS)), expected, atol=1e-5)
    assert matched.scale == pytest.approx(7.0)
    assert matched.bias == (-1.5 if model_type == "siglip" else 0.0)


def test_open_text_tower__finds_the_end_of_texts_as_old_files_have_it(tmp_path):
    write_model(tmp_path, "clip")
    tower = open_text_tower(f"keras_hub:{tmp_path}")
    expected = tower.load().rows(tower.tokenize(TEXTS))
    write_model(tmp_path, "clip", text={"eos_token_id": 2})
    tower = open_text_tower(f"keras_hub:{tmp_path}")
    np.testing.assert_array_equal(tower.load().rows(tower.tokenize(TEXTS)), expected)


def test_open_text_tower__a_long_text_is_refused(tmp_path):
    write_model(tmp_path, "clip")
    tokenize = open_text_tower(f"keras_hub:{tmp_path}").tokenize
    assert tokenize(["a" * (LENGTH - 2)]).shape == (1, LENGTH)
    with pytest.raises(
        OptionError, match=rf"has {LENGTH + 1} tokens, the text tower takes {LENGTH}\. Shorten"
    ):
        tokenize(["owl", "a" * (LENGTH - 1)])


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_open_text_tower__folders_that_do_not_hold_what_they_say(model_type, tmp_path):
    first = "text_model.encoder.layers.0.mlp.fc1"
    base = f"keras_hub:{tmp_path}"
    for changes, message in (
        ({f"{first}.weight": np.zeros((3, WIDTH), "f")}, r"layers\.0\.mlp\.fc1 has another shape"),
        ({f"{first}.weight": None}, r"layers\.0\.mlp\.fc1\.weight is missing"),
        ({"logit_scale": None}, "logit_scale is missing"),
        ({"text_model.more.weight": np.zeros(2, "f")}, r"more\.weight has no place"),
    ):
        write_model(tmp_path, model_type, **changes)
        with pytest.raises(OptionError, match=rf"TextEncoder of its config\.json: .*{message}"):
            open_text_tower(base).load()
    write_model(tmp_path, model_type, text={"hidden_act": "relu"})
    with pytest.raises(OptionError, match=r"hidden_act='relu' .*TextEncoder has hidden_act"):
        open_text_tower(base)


def test_open_text_tower__tokenizers_that_cannot_be_used(tmp_path):
    base = f"keras_hub:{tmp_path}"
    write_model(tmp_path, "siglip")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "_"}}))
    assert open_text_tower(base).tokenize(["owl"])[0, -1] == VOCABULARY.index("_")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(OptionError, match=r"tokenizer_config\.json does not tell the pad_token"):
        open_text_tower(base)
    for text in ({"vocab_size": 5}, {"eos_token_id": 1}):
        write_model(tmp_path, "clip", text=text)
        with pytest.raises(OptionError, match=r"tokenizer\.json is of another model"):
            open_text_tower(base).tokenize(["owl"])
    write_model(tmp_path, "clip")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(OptionError, match=r"tokenizer\.json is damaged"):
        open_text_tower(base)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(OptionError, match=r"has no tokenizer\.json, or vocab\.json and merges\.txt, to make"):
        open_text_tower(base)


def test_open_text_tower__bases_without_one(tmp_path):
    for base in ("resnet50", "module:function", "keras_hub:vit_base_patch16_224_imagenet"):
        with pytest.raises(
            OptionError, match=f"^{base} has no text tower: .* Take CLIP, MetaCLIP 2 or SigLIP"
        ):
            open_text_tower(base)
    state = write_model(tmp_path, "clip")
    write_model(tmp_path, "clip", **{name: None for name in state if name.startswith("text_model")})
    with pytest.raises(OptionError, match=r"holds no text tower\. Take the folder of the whole model"):
        open_text_tower(f"keras_hub:{tmp_path}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}))
    with pytest.raises(OptionError, match="holds the part that sees images alone"):
        open_text_tower(f"keras_hub:{tmp_path}")


def test_open_text_tower__of_a_preset_is_that_of_keras_hub(tmp_path):
    hub = pytest.importorskip("keras_hub", minversion="0.23")  # whose preprocessors load
    letters = [*"abcdefghijklmnopqrstuvwxyz."]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "ow", "<|startoftext|>", "<|endoftext|>"]
    seeing = hub.models.CLIPVisionEncoder(4, 8, 1, 2, 12, image_shape=(8, 8, 3))
    reading = hub.models.CLIPTextEncoder(len(tokens), 8, 8, 1, 2, 12, max_sequence_length=40)
    model = hub.models.CLIPBackbone(seeing, reading, 6)
    model.clip_head.logit_scale.assign(2.0)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = hub.models.CLIPTokenizer(vocabulary=vocabulary, merges=["o w"], pad_with_end_token=True)
    model.save_to_preset(tmp_path)
    hub.models.CLIPPreprocessor(tokenizer, sequence_length=40).save_to_preset(tmp_path)

    tower = open_text_tower(f"keras_hub:{tmp_path}")
    ids = tower.tokenize(TEXTS)
    matched = tower.load()
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
    logits = model({"images": images, "token_ids": ids})["vision_logits"]
    rows = matched.compared(np.asarray(seeing({"images": images}))[:, 0])
    np.testing.assert_allclose(matched.scale * rows @ matched.rows(ids).T, logits, atol=1e-4)
    assert (tower.layer, tower.pool, matched.bias) == ("layer_norm", "cls", 0.0)
    with pytest.raises(OptionError, match=re.escape("the text tower takes 40. Shorten it: 'aaa")):
        tower.tokenize(["owl", "a" * 39])

"""Texts to token ids, as the text tower of a preset was trained with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.bases.model_files import first_line
from fastcls.errors import CacheError, OptionError
from fastcls.optional import require

# Texts -> token ids (N, L) int32.
Tokenize = Callable[[Sequence[str]], np.ndarray]
_FILE, _CONFIG = "tokenizer.json", "tokenizer_config.json"


def folder_tokenizer(
    folder: Path,
    most: int,
    words: int,
    *,
    lower: bool = False,
    is_padded: bool = False,
    end: int | None = None,
) -> Tokenize:
    """That of a folder of Hugging Face, by its `tokenizer.json`.

    Args:
        folder: Of the model.
        most: Tokens that its text tower takes.
        words: Tokens that it knows.
        lower: Whether texts come to lower case first.
        is_padded: Whether all texts are padded to `most`; else they are as long as the longest, and what
            follows the end of a text has no effect.
        end: The token that a text ends with, where the tower looks for it.

    Raises:
        MissingExtraError: The package tokenizers is not installed.
        OptionError: The folder has no such file, or it is damaged or of another model.
    """
    library: Any = require("tokenizers", purpose="Reading the tokenizer of a text tower", extra="hub")
    path = folder / _FILE
    if not path.is_file():
        raise OptionError(
            f"{folder} has no {_FILE}, which makes tokens of prompts. Take it from where the model is from, "
            "and put it there"
        )
    try:
        tokenizer = library.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain ones
        raise OptionError(f"{path} is damaged: {first_line(error)}") from error
    tokenizer.no_truncation()  # too long a text is refused
    tokenizer.no_padding()
    pad = _padding(folder, tokenizer) if is_padded else 0

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        found = [each.ids for each in tokenizer.encode_batch([t.lower() if lower else t for t in texts])]
        require_short(texts, [len(ids) for ids in found], most)
        if max(map(max, filter(None, found)), default=0) >= words or any(
            end is not None and end not in ids for ids in found
        ):
            raise OptionError(
                f"{path} is of another model: its tokens are not those of {folder / 'config.json'}"
            )
        length = most if is_padded else max(map(len, found))
        return np.array([ids + [pad] * (length - len(ids)) for ids in found], np.int32)

    return tokenize


def _padding(folder: Path, tokenizer: Any) -> int:
    """What texts are padded with."""
    path = folder / _CONFIG
    try:
        token = files.read_json(path)["pad_token"]
        token = token["content"] if isinstance(token, dict) else token
        found = tokenizer.token_to_id(token)
    except (CacheError, OSError, KeyError, TypeError, ValueError):
        found = None
    if found is None:
        raise OptionError(f"{path} does not tell the pad_token, one of {_FILE}, that prompts are padded with")
    return int(found)


def preset_tokenizer(hub: Any, preset: str, family: str) -> Tokenize:
    """That of a preset of keras_hub, by its own preprocessor.

    Args:
        hub: The module keras_hub.
        preset: Its name or folder.
        family: What the classes of its family begin with.

    Raises:
        OptionError: It cannot be loaded, as where it needs tensorflow-text.
    """
    kind = f"{family}CausalLMPreprocessor" if family == "MetaCLIP2" else f"{family}Preprocessor"
    try:
        made = getattr(hub.models, kind).from_preset(preset)
        made.image_converter = None
    except Exception as error:  # keras_hub, and what it downloads with, raise errors of many classes
        raise OptionError(
            f"keras_hub cannot load the tokenizer of the preset {preset!r}: {first_line(error)}"
        ) from error
    most = int(made.sequence_length)

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        longest = 4 * max(most, max(map(len, texts)))  # in bytes of UTF-8, of which a token has one or more
        asked = {"prompts": list(texts), "images": np.zeros((len(texts), 1), np.float32)}
        found = made(asked, sequence_length=longest)
        require_short(texts, np.asarray(found["padding_mask"]).sum(axis=1).tolist(), most)
        return np.asarray(found["token_ids"])[:, :most].astype(np.int32)

    return tokenize


def require_short(texts: Sequence[str], lengths: Sequence[int], most: int) -> None:
    """Raise OptionError for a text that has more tokens than a tower takes."""
    for text, length in zip(texts, lengths, strict=True):
        if length > most:
            raise OptionError(
                f"A prompt has {length} tokens, the text tower takes {most}. Shorten it: {text!r}"
            )

"""Texts to token ids, as the text tower of a preset was trained with."""

from __future__ import annotations

import contextlib
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
_PIECES, _WORDS, _MERGES = "spiece.model", "vocab.json", "merges.txt"
_PURPOSE = "Reading the tokenizer of a text tower"
# CLIP's: what a text begins and ends with, and what its words are.
_CLIP_ENDS = ("<|startoftext|>", "<|endoftext|>")
_CLIP_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"""
# SigLIP's: texts lose their punctuation.
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SPACE, _UNKNOWN, _END = "\u2581", "<unk>", "</s>"


@dataclass(frozen=True)
class _Vocabulary:
    """What makes tokens of texts.

    Attributes:
        path: The file.
        encode: Texts -> ids of each.
        find: The id of a token; None where there is no such token.
    """

    path: Path
    encode: Callable[[Sequence[str]], list[list[int]]]
    find: Callable[[str], int | None]


def folder_tokenizer(
    folder: Path,
    most: int,
    words: int,
    *,
    family: str,
    end: int | None = None,
) -> Tokenize:
    """That of a folder of Hugging Face, by its `tokenizer.json`, or the older files of its family.

    Texts for SigLIP come to lower case and are padded to `most`, as it was trained; others are as long as the
    longest, and what follows the end of a text has no effect.

    Args:
        folder: Of the model.
        most: Tokens that its text tower takes.
        words: Tokens that it knows.
        family: Its `model_type`.
        end: The token that a text ends with, where the tower looks for it.

    Raises:
        MissingExtraError: The package tokenizers or sentencepiece is not installed.
        OptionError: The folder has no such file, or it is damaged or of another model.
    """
    is_siglip = family == "siglip"
    vocabulary = _open_vocabulary(folder, family)
    pad = _padding(folder, vocabulary) if is_siglip else 0

    def tokenize(texts: Sequence[str]) -> np.ndarray:
        found = vocabulary.encode([text.lower() if is_siglip else text for text in texts])
        require_short(texts, [len(ids) for ids in found], most)
        if max(map(max, filter(None, found)), default=0) >= words or any(
            end is not None and end not in ids for ids in found
        ):
            raise OptionError(
                f"{vocabulary.path} is of another model: its tokens are not those of {folder / 'config.json'}"
            )
        length = most if is_siglip else max(map(len, found))
        return np.array([ids + [pad] * (length - len(ids)) for ids in found], np.int32)

    return tokenize


def _open_vocabulary(folder: Path, family: str) -> _Vocabulary:
    """The first that is there: of SigLIP that which transformers reads, whatever is beside it."""
    if family == "siglip" and (folder / _PIECES).is_file():
        return _open_pieces(folder / _PIECES)
    if (folder / _FILE).is_file():
        return _open_json(folder / _FILE)
    if family == "clip" and (folder / _WORDS).is_file() and (folder / _MERGES).is_file():
        return _open_clip(folder)
    others = {"siglip": f" or {_PIECES}", "clip": f", or {_WORDS} and {_MERGES}"}
    raise OptionError(
        f"{folder} has no {_FILE}{others.get(family, '')}, to make tokens of prompts. Take that from where "
        "the model is from, and put it there"
    )


def _open_json(path: Path) -> _Vocabulary:
    library: Any = require("tokenizers", purpose=_PURPOSE, extra="hub")
    with _as_damaged(path):
        tokenizer = library.Tokenizer.from_file(str(path))
    tokenizer.no_truncation()  # too long a text is refused
    tokenizer.no_padding()
    return _vocabulary(path, tokenizer)


def _open_clip(folder: Path) -> _Vocabulary:
    """As transformers makes CLIP's tokenizer of its files."""
    library: Any = require("tokenizers", purpose=_PURPOSE, extra="hub")
    start, end = _CLIP_ENDS
    with _as_damaged(f"{folder / _WORDS} or {_MERGES} beside it"):
        words = library.models.BPE.from_file(
            *(str(folder / name) for name in (_WORDS, _MERGES)), unk_token=end, end_of_word_suffix="</w>"
        )
    tokenizer = library.Tokenizer(words)
    made, split = library.normalizers, library.pre_tokenizers
    found = _vocabulary(folder / _WORDS, tokenizer)
    numbers = [(token, _known(found, token)) for token in (end, start)]
    tokenizer.post_processor = library.processors.RobertaProcessing(*numbers, False, False)
    tokenizer.add_special_tokens([*_CLIP_ENDS])
    spaces = made.Replace(library.Regex(r"\s+"), " ")
    tokenizer.normalizer = made.Sequence([made.NFC(), spaces, made.Lowercase()])
    by_word = split.Split(library.Regex(_CLIP_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = split.Sequence([by_word, split.ByteLevel(add_prefix_space=False)])
    return found


def _vocabulary(path: Path, tokenizer: Any) -> _Vocabulary:
    def encode(texts: Sequence[str]) -> list[list[int]]:
        return [each.ids for each in tokenizer.encode_batch(list(texts))]

    return _Vocabulary(path, encode, tokenizer.token_to_id)


def _open_pieces(path: Path) -> _Vocabulary:
    """As transformers reads SigLIP's tokenizer: without punctuation, and what begins a text begins a word."""
    library: Any = require("sentencepiece", purpose=f"Reading {path.name}", extra="hub")
    with _as_damaged(path):
        pieces = library.SentencePieceProcessor(model_file=str(path))
        before = len(pieces.encode(_UNKNOWN))

    def encode(texts: Sequence[str]) -> list[list[int]]:
        plain = [f"{_SPACE}{text.replace(_SPACE, ' ')}".translate(_NO_PUNCTUATION) for text in texts]
        plain = [re.sub(r"\s+", " ", text).strip() for text in plain]
        return [[*pieces.encode(_UNKNOWN + text)[before:], end] for text in plain]

    def find(token: str) -> int | None:
        number: int = pieces.piece_to_id(token)
        return number if pieces.id_to_piece(number) == token else None

    found = _Vocabulary(path, encode, find)
    end = _known(found, _END)
    return found


def _known(vocabulary: _Vocabulary, token: str) -> int:
    """The id of a token; raises OptionError where there is no such token."""
    number = vocabulary.find(token)
    if number is None:
        raise OptionError(f"{vocabulary.path} is of another model: it has no token {token!r}")
    return number


@contextlib.contextmanager
def _as_damaged(path: Path | str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # these libraries raise plain ones
        raise OptionError(f"{path} is damaged: {first_line(error)}") from error


def _padding(folder: Path, vocabulary: _Vocabulary) -> int:
    """What texts are padded with: as the configuration says; `spiece.model` alone has the end of a text."""
    path, found = folder / _CONFIG, None
    is_alone = vocabulary.path.name == _PIECES and not path.is_file()
    with contextlib.suppress(CacheError, OSError, KeyError, TypeError, ValueError):
        token = _END if is_alone else files.read_json(path)["pad_token"]
        found = vocabulary.find(token["content"] if isinstance(token, dict) else token)
    if found is None:
        raise OptionError(
            f"{path} does not tell the pad_token, one of {vocabulary.path.name}, that prompts are padded with"
        )
    return found


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

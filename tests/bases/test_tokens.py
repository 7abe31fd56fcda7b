"""Tokenizers in folders of CLIP and SigLIP, against those of transformers."""

import json
import random
import shutil
from pathlib import Path

import pytest

from fastcls.bases.tokens import folder_tokenizer
from fastcls.errors import OptionError

LINES = (Path(__file__).parents[2] / "CHANGELOG.md").read_text().splitlines()
START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = " .,'!?-_()\t\u00a0\u3000aeisTW019éÉßñ日本한🦊ﬁİ\u0301\u2581\u2028"


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A small vocabulary of SigLIP's kind."""
    spm = pytest.importorskip("sentencepiece")
    folder = tmp_path_factory.mktemp("pieces")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(line.lower() for line in LINES if line),
        **{"model_prefix": str(folder / "spiece"), "vocab_size": 500, "minloglevel": 2},
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    )
    (folder / "spiece.vocab").unlink()
    return folder


def write_clip(folder, merges):
    """A vocabulary of CLIP's kind: each byte, inside of a word and at its end, and merged ones."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    joined = [merge.replace(" ", "") for merge in merges]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *joined, START, END]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return tokens


def random_texts(count):
    chosen = random.Random(0)
    for _ in range(count):
        line = chosen.choice(LINES)
        first = chosen.randrange(len(line) + 1)
        yield line[first : first + chosen.randint(1, 40)]
        yield "".join(chosen.choices(LETTERS, k=chosen.randint(1, 20)))


def test_folder_tokenizer__of_vocab_and_merges(tmp_path):
    tokens = write_clip(tmp_path, ["o w", "ow l</w>", "' s</w>"])
    tokenize = folder_tokenizer(tmp_path, 77, len(tokens), family="clip", end=len(tokens) - 1)
    ids = tokenize(["An  OWL's 12\n", "ow"])
    words = ["a", "n</w>", "owl</w>", "'s</w>", "1</w>", "2</w>"]
    assert [tokens[number] for number in ids[0]] == [START, *words, END]
    assert [tokens[number] for number in ids[1][:4]] == [START, "o", "w</w>", END]


def test_folder_tokenizer__of_vocab_and_merges_is_that_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5")
    tokens = write_clip(tmp_path, ["o n", "i n", "in g</w>", "t h", "th e</w>", "a n", "an d</w>"])
    tokenize = folder_tokenizer(tmp_path, 1000, len(tokens), family="clip", end=len(tokens) - 1)
    theirs = transformers.CLIPTokenizer.from_pretrained(str(tmp_path))
    for text in [*random_texts(300), f"a {END} b", ""]:
        assert tokenize([text])[0].tolist() == theirs(text)["input_ids"], repr(text)


def test_folder_tokenizer__of_pieces(pieces):
    """In lower case, without punctuation, ended and padded."""
    spm = pytest.importorskip("sentencepiece")
    plain = spm.SentencePieceProcessor(model_file=str(pieces / "spiece.model"))
    ids = folder_tokenizer(pieces, 64, 500, family="siglip")(["This is, a PHOTO  of (a) fox.", "fox"])
    expected = plain.encode("this is a photo of a fox")
    assert ids.shape == (2, 64)
    assert ids[0].tolist() == expected + [1] * (64 - len(expected))
    with pytest.raises(
        OptionError, match=r"has \d+ tokens, the text tower takes 4\. Shorten it: 'a long text"
    ):
        folder_tokenizer(pieces, 4, 500, family="siglip")(["a long text of seven words"])


def test_folder_tokenizer__of_pieces_is_that_of_transformers(pieces, tmp_path):
    transformers = pytest.importorskip("transformers", minversion="5")
    theirs = transformers.SiglipTokenizer(str(pieces / "spiece.model"))
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    for folder in (pieces, tmp_path):
        tokenize = folder_tokenizer(folder, 200, 500, family="siglip")
        for text in random_texts(300):
            found = theirs(text, padding="max_length", max_length=200)["input_ids"]
            assert tokenize([text])[0].tolist() == found, repr(text)


def test_folder_tokenizer__pieces_come_before_what_is_beside_them(pieces, tmp_path):
    """As in transformers, which has no other tokenizer of SigLIP."""
    folder = shutil.copytree(pieces, tmp_path / "both")
    (folder / "tokenizer.json").write_text("{}")
    assert folder_tokenizer(folder, 8, 500, family="siglip")(["fox"]).shape == (1, 8)
    with pytest.raises(OptionError, match=r"tokenizer\.json is damaged"):  # it is the one of other families
        folder_tokenizer(folder, 8, 500, family="metaclip_2")


def test_folder_tokenizer__pieces_that_cannot_be_used(pieces, tmp_path):
    folder = shutil.copytree(pieces, tmp_path / "folder")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({"pad_token": "<pad>"}))
    assert folder_tokenizer(folder, 8, 500, family="siglip")(["fox"])[0, -1] == 0
    for text in ('{"pad_token": "nothing"}', '{"pad_token": 3}', "{}", "{"):
        config.write_text(text)
        with pytest.raises(
            OptionError, match=r"tokenizer_config\.json does not tell the pad_token, one of spiece\.m"
        ):
            folder_tokenizer(folder, 8, 500, family="siglip")
    config.unlink()
    with pytest.raises(OptionError, match=r"spiece\.model is of another model: its tokens are not those of"):
        folder_tokenizer(folder, 8, 3, family="siglip")(["fox"])
    for damaged in (b"", b"text", (pieces / "spiece.model").read_bytes()[:2000]):
        (folder / "spiece.model").write_bytes(damaged)
        with pytest.raises(OptionError, match=r"spiece\.model is damaged: "):
            folder_tokenizer(folder, 8, 500, family="siglip")
    spm = pytest.importorskip("sentencepiece")
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        **{"model_prefix": str(folder / "spiece"), "vocab_size": 200, "eos_id": -1, "minloglevel": 2},
    )
    with pytest.raises(OptionError, match=r"spiece\.model is of another model: it has no token '</s>'"):
        folder_tokenizer(folder, 8, 500, family="siglip")


def test_folder_tokenizer__files_of_clip_that_cannot_be_used(tmp_path):
    tokens = write_clip(tmp_path, ["o w"])
    for name, text in (("vocab.json", "{"), ("merges.txt", "#version\no w l\n"), ("merges.txt", "x y\n")):
        write_clip(tmp_path, ["o w"])
        (tmp_path / name).write_text(text)
        with pytest.raises(OptionError, match=r"vocab\.json or merges\.txt beside it is damaged: ."):
            folder_tokenizer(tmp_path, 77, len(tokens), family="clip")
    write_clip(tmp_path, ["o w"])
    numbers = json.loads((tmp_path / "vocab.json").read_text())
    del numbers[END]
    (tmp_path / "vocab.json").write_text(json.dumps(numbers))
    with pytest.raises(
        OptionError, match=r"vocab\.json is of another model: it has no token '<\|endoftext\|>'"
    ):
        folder_tokenizer(tmp_path, 77, len(tokens), family="clip")


def test_folder_tokenizer__no_file(tmp_path):
    write_clip(tmp_path, ["o w"])
    (tmp_path / "merges.txt").unlink()
    for family, others in (
        ("clip", ", or vocab.json and merges.txt"),
        ("siglip", " or spiece.model"),
        ("metaclip_2", ""),
    ):
        with pytest.raises(OptionError) as raised:
            folder_tokenizer(tmp_path, 77, 100, family=family)
        assert f"has no tokenizer.json{others}, to make tokens of prompts. Take" in str(raised.value)

"""Prompts of classes: templates, files, and what is wrong with them."""

import pytest

from fastcls.data.prompts import read_prompts
from fastcls.errors import OptionError

NAMES = ["red_fox", "owl", "owl: snowy"]


def test_read_prompts__a_template_is_for_all():
    assert read_prompts("a {}, {}", NAMES) == [
        ("a red fox, red fox",),
        ("a owl, owl",),
        ("a owl: snowy, owl: snowy",),
    ]


def test_read_prompts__lines_of_a_class_stand_for_the_templates(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(
        "\ufeffa photo of a {}.\n\nowl: an owl in a tree\nowl:a {} at night\n  a drawing of a {}.  \n"
        "owl: snowy: a white owl\n",
        encoding="utf-8",
    )
    assert read_prompts(str(file), NAMES) == [
        ("a photo of a red fox.", "a drawing of a red fox."),
        ("an owl in a tree", "a owl at night"),
        ("a white owl",),
    ]


def test_read_prompts__names_that_look_equal_are_equal(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("caf\u00e9: a table outside\n", encoding="utf-8")
    assert read_prompts(str(file), ["cafe\u0301"]) == [("a table outside",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"owl: a\nred_fix: b\n{}", "Line 2 of .* is of a class 'red_fix', which there is not. The closest"),
        (b"owl: a\nowl\n", "Line 2 of .* is neither a template with {} .* nor 'class: prompt': 'owl'"),
        (b"owl: \n", "Line 1 of .* has no prompt after 'owl:'"),
        (b"owl: a", "has no prompt for red_fox, owl: snowy. Add lines 'class: prompt'"),
        (b"\n", "has no prompt for red_fox, owl, owl: snowy. Add"),
        (b"\xff\xfe", "is not a text in UTF-8"),
    ],
)
def test_read_prompts__a_file_that_cannot_be_used(tmp_path, text, message):
    file = tmp_path / "prompts.txt"
    file.write_bytes(text)
    with pytest.raises(OptionError, match=message):
        read_prompts(str(file), NAMES)


def test_read_prompts__neither_file_nor_template(tmp_path):
    for given in ("a photo", str(tmp_path), "a\0b"):
        with pytest.raises(OptionError, match=r"--prompts takes a file, or a template with {} .*Received"):
            read_prompts(given, NAMES)

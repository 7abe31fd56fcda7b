import pytest

from fastcls.evaluation.text_table import format_table, shorten


def test_format_table__aligns_by_terminal_columns():
    decomposed = "cafe\N{COMBINING ACUTE ACCENT}"
    lines = format_table([["class", "n"], ["花花", "10"], [decomposed, "7"]]).splitlines()
    assert lines == ["class   n", "花花   10", f"{decomposed}    7"]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("rose", "rose"),
        ("12345678", "12345678"),
        ("123456789", "1234567…"),
        ("花花花花", "花花花花"),
        ("花花花花花", "花花花…"),
        ("a\nb\tc", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
    ],
)
def test_shorten(name, short):
    assert shorten(name, 8) == short

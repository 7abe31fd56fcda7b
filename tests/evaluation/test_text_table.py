import numpy as np
import pytest

from fastcls.evaluation.one_label import evaluate
from fastcls.evaluation.several_labels import evaluate_multi_label
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


@pytest.mark.parametrize("several", [False, True])
def test_tables_of_a_test_have_a_row_for_each_of_the_first_100_classes(several):
    def told(count):
        names, labels = [f"c{place:04}" for place in range(count)], np.eye(count)
        if several:
            return evaluate_multi_label(labels, labels, [0.5] * count, names).table()
        return evaluate(np.arange(count), labels, names).table()

    table = told(1200)
    assert table.count("and 1,100 more classes") == 1 + several and "c0099" in table and "c0100" not in table
    assert ("\nmean" if several else "\nmacro average") in table
    assert "more class" not in told(100) and "c0099" in told(100)
    assert "and 1 more class\n" in told(101)

"""Class names in any script, with the fonts that are installed and without."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from fastcls.evaluation import fonts, pictures
from fastcls.evaluation.pictures import draw_confusion, draw_found

NAMES = (
    "tulip",
    "Größe",
    "郁金香",
    "وردة",
    "गुलाब",
    "🌻",
    "e\N{COMBINING ACUTE ACCENT}",
    "❤\N{VARIATION SELECTOR-16}",
)


@pytest.fixture(autouse=True)
def _forgotten():
    forget = fonts.font_for.cache_clear, fonts._installed.cache_clear
    for clear in forget:
        clear()
    yield
    for clear in forget:
        clear()


@pytest.fixture
def written(monkeypatch):
    """Texts of the names in the pictures that are drawn."""
    texts = []
    original = pictures._save

    def save(figure, path):
        (axes, *_) = figure.axes
        texts.append([text.get_text() for text in axes.get_yticklabels()] + [axes.get_xlabel()])
        original(figure, path)

    monkeypatch.setattr(pictures, "_save", save)
    return texts


@pytest.mark.parametrize("is_installed", [False, True])
def test_names_that_no_font_has_are_numbers(tmp_path, written, monkeypatch, is_installed):
    if not is_installed:
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(np.eye(len(NAMES), dtype=int), NAMES, tmp_path / "one.png")
        draw_found(np.ones((len(NAMES), 4), int), NAMES, tmp_path / "several.png")
    for shown in written:
        assert shown[:2] == ["tulip", "Größe"] and shown[3:5] == ["[3]", "[4]"]
        assert shown[2] == (NAMES[2] if fonts.font_for(NAMES[2]) else "[2]")
        assert shown[6] == "é" and shown[7] == "❤"  # the default font has both, once composed
        assert "class n of " in shown[-1]
    if not is_installed:
        assert written[0][2] == "[2]" and written[0][5] == "[5]"


def test_font_for__looks_no_further_than_it_must(monkeypatch):
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", None)  # calling it would fail
    assert [fonts.font_for(name) for name in ("tulip", "Größe", "Ромашка", "وردة")] == ["", "", "", None]

"""Heads: their layers, the user's function, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.errors import OptionError
from fastcls.specs import HeadSpec
from fastcls.training.heads import network
from fastcls.training.heads.network import build_head


def test_build_head__is_one_softmax_layer_by_default():
    import_keras()
    head = build_head(HeadSpec(), (7,), 3)
    kernel, bias = head.get_weights()
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    logits = np.exp(rows @ kernel + bias)
    np.testing.assert_allclose(head(rows), logits / logits.sum(1, keepdims=True), rtol=1e-5)


def test_build_head__layers_are_dense_and_dropout():
    import_keras()
    head = build_head(HeadSpec(layers=(64, 0.4, 32)), (7,), 3)
    kinds = [(type(layer).__name__, layer.name) for layer in head.layers[1:]]
    assert [kind for kind, _ in kinds] == ["Dense", "Dropout", "Dense", "Dense"]
    assert all(name.startswith("head_") for _, name in kinds)
    assert head.layers[2].rate == 0.4
    assert [layer.units for layer in head.layers if hasattr(layer, "units")] == [64, 32, 3]


@pytest.mark.parametrize("shape", [(4, 6), (4, 5, 6), (2, 4, 5, 6)])
def test_build_head__averages_a_spatial_bottleneck(shape):
    import_keras()
    head = build_head(HeadSpec(), shape, 3)
    kernel, bias = head.get_weights()
    rows = np.random.default_rng(0).normal(size=(5, *shape)).astype(np.float32)
    logits = np.exp(rows.mean(axis=tuple(range(1, rows.ndim - 1))) @ kernel + bias)
    np.testing.assert_allclose(head(rows), logits / logits.sum(1, keepdims=True), rtol=1e-5)


def test_build_head__normalizes_what_it_takes():
    import_keras()
    rows = np.random.default_rng(0).normal(2, 3, size=(50, 7)).astype(np.float32)
    centered = (rows - rows.mean(axis=0)) / np.sqrt(rows.var(axis=0) + 1e-3)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for norm, expected, training in (("batch", centered, True), ("l2", unit, False)):
        head = build_head(HeadSpec(layers=(0.4,), bottleneck_norm=norm), (7,), 3)
        assert [type(layer).__name__ for layer in head.layers][2:] == ["Dropout", "Dense"]
        np.testing.assert_allclose(head.layers[1](rows, training=training), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "norm", "complaint"),
    [
        ("logreg", "batch", "--head logreg takes --bottleneck-norm none or l2. Received: batch"),
        ("prototype", "l2", "--bottleneck-norm has no effect with --head prototype. Remove it"),
        ("knn", "batch", "no effect with --head knn"),
        ("x.py:head", "l2", "no effect with --head x.py:head"),
        ("linear", "length", "Choose one of: none, batch, l2"),
        ("nearest", "none", r"Unknown head: 'nearest'.*logreg.*file\.py:function"),
    ],
)
def test_head_spec__refuses_what_a_kind_does_not_do(kind, norm, complaint):
    with pytest.raises(OptionError, match=complaint):
        HeadSpec(kind, bottleneck_norm=norm)


@pytest.mark.parametrize("kind", ["logreg", "prototype", "knn", "x.py:head"])
def test_head_spec__only_a_linear_head_has_layers(kind):
    with pytest.raises(OptionError, match=f"--layers has no effect with --head {kind}. Remove it"):
        HeadSpec(kind, (8,))


@pytest.mark.parametrize(
    "spec", [HeadSpec(layers=(8, 0.5), bottleneck_norm="l2"), HeadSpec("knn"), HeadSpec("x.py:head")], ids=str
)
def test_head_spec__comes_back_from_json(spec):
    assert HeadSpec(**json.loads(json.dumps(asdict(spec)))) == spec


@pytest.mark.parametrize("layers", [(0,), (-3,), (1.5,), (0.0,), (256, 1.0)])
def test_head_spec__refuses_what_is_neither_units_nor_rate(layers):
    with pytest.raises(OptionError, match=r"units.*dropout rate"):
        HeadSpec(layers=layers)


def test_build_head__refuses_layers_that_do_not_fit_in_memory(monkeypatch):
    spec = HeadSpec("linear", layers=(50, 0.5, 20))
    needed = 16 * (10 * 50 + 50 * 20 + 20 * 3)
    monkeypatch.setattr(network, "available_memory", lambda: needed)
    assert build_head(spec, (4, 4, 10), 3).count_params() == needed // 16 + 50 + 20 + 3
    monkeypatch.setattr(network, "available_memory", lambda: needed - 1)
    with pytest.raises(
        OptionError, match=r"10 -> 50 -> 20 -> 3 of the head have 1,560 weights, which take 24\.4 KiB"
    ):
        build_head(spec, (4, 4, 10), 3)


def test_build_head__takes_a_function(tmp_path: Path):
    import_keras()
    head = build_head(_function(tmp_path, GOOD), (4, 4, 8), 3)
    assert head.output_shape == (None, 3)
    assert any(type(layer).__name__ == "Conv2D" for layer in head.layers)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            "return keras.layers.Dense(classes + 1, activation='softmax')(x)",
            r"shape \(None, 3\).*\(None, 4\)",
        ),
        ("return keras.layers.Dense(classes)(x)", "must return probabilities"),
        ("return None", "must return a tensor"),
        (
            "return keras.layers.Lambda(lambda t: keras.ops.softmax(t[:, :3]))(x)",
            "only Keras's own layers, without Lambda",
        ),
    ],
)
def test_build_head__refuses_a_function_with_a_wrong_output(tmp_path: Path, body: str, complaint: str):
    import_keras()
    with pytest.raises(OptionError, match=complaint):
        build_head(_function(tmp_path, f"import keras\ndef head(x, classes):\n    {body}\n"), (7,), 3)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere.py:head", "existing file"),
        ("head", "Unknown head.*file.py:function"),
        ("nowhere.txt:", "file.py:function"),
        ("{file}:other", "AttributeError"),
    ],
)
def test_build_head__refuses_a_function_that_is_not_there(tmp_path: Path, name: str, complaint: str):
    import_keras()
    _function(tmp_path, GOOD)
    with pytest.raises(OptionError, match=complaint):
        build_head(HeadSpec(name.format(file=tmp_path / "heads.py")), (7,), 3)


def test_build_head__a_function_that_raises_is_the_users_mistake(tmp_path: Path):
    import_keras()
    spec = _function(tmp_path, "def head(x, classes):\n    raise KeyError('units')\n")
    with pytest.raises(OptionError, match=r"head.*KeyError: 'units'"):
        build_head(spec, (7,), 3)


GOOD = """
import keras

def head(bottleneck, classes):
    x = keras.layers.Conv2D(4, 3, activation="relu")(bottleneck)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.layers.Dense(classes, activation="softmax")(x)
"""


def _function(folder: Path, code: str) -> HeadSpec:
    file = folder / "heads.py"
    file.write_text(code)
    return HeadSpec(f"{file}:head")

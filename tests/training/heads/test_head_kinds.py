"""What every kind of head in the table must do, and what it takes to add one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.text_towers import Matched, TextTower
from fastcls.errors import OptionError
from fastcls.inference.stitcher import stitch
from fastcls.specs import HEADS, CheckpointSpec, HeadKind, HeadSpec, Step, TrainConfig, check_effect
from fastcls.tasks import SEVERAL_LABELS, TASKS
from fastcls.training.head_trainer import TrainedHead, prepare_training, train_head
from fastcls.training.heads.fitting import FittedHead
from fastcls.training.heads.network import named_head

keras = import_keras()
layers = keras.layers

SHAPE = (3, 3, 8)
FUNCTION = """
import keras

def head(bottleneck, classes):
    x = keras.layers.Dense(8, activation="relu")(keras.layers.GlobalAveragePooling2D()(bottleneck))
    return keras.layers.Dense(classes, activation="softmax")(x)
"""
# One option of each spec, at a value that is not its default.
OPTIONS = {
    "layers": (8,),
    "bottleneck_norm": "l2",
    "train_batch_norm": True,
    "refit": False,
    "optimizer": "SGD",
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "sampling": "balanced",
    "patience": 1,
    "checkpoints": CheckpointSpec(min_accuracy=0.1),
}
MODELS: dict[Any, Any] = {}
OF_THE_HEAD = ("layers", "bottleneck_norm", "train_batch_norm", "refit")


class HeadContract:
    """What holds for each kind of head; a subclass says which one, in `kind`."""

    @pytest.fixture
    def kind(self, tmp_path: Path) -> str:
        """The kind of head, as `HeadSpec` has it."""
        raise NotImplementedError

    @pytest.fixture
    def spec(self, kind: str) -> HeadSpec:
        return HeadSpec(kind)

    @pytest.fixture
    def cache(self, make_cache: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A cache of maps, with a tail."""
        monkeypatch.setattr("fastcls.training.head_trainer.load_tail", lambda cache: _tail())
        return make_cache(shape=SHAPE)[0]

    def train(self, cache: Any, spec: HeadSpec, **options: Any) -> TrainedHead:
        """A quick training."""
        return train_head(cache, spec, TrainConfig(**({} if spec.is_fitted else {"epochs": 3}), **options))

    def model(self, cache: Any, spec: HeadSpec) -> Any:
        """That of a quick training, made once for each kind."""
        known = type(self), spec.kind if spec.kind in HEADS else ""
        if known not in MODELS:
            MODELS[known] = self.train(cache, spec).model
        return MODELS[known]

    def test_learns_and_says_what_was_chosen(self, cache: Any, spec: HeadSpec) -> None:
        trained = self.train(cache, spec, **({} if spec.is_fitted else {"learning_rate": 0.05}))
        step = spec.traits.step.name
        assert trained.best in trained.history and trained.best["val_accuracy"] > 0.5
        assert len({row[step] for row in trained.history}) == len(trained.history)

    def test_gives_probabilities(self, cache: Any, spec: HeadSpec) -> None:
        found = self.model(cache, spec).predict_on_batch(_rows())
        assert found.shape == (5, 3) and found.min() >= 0
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)

    def test_loads_with_plain_keras(self, cache: Any, spec: HeadSpec, tmp_path: Path) -> None:
        model = self.model(cache, spec)
        model.save(tmp_path / "head.keras")
        loaded = keras.saving.load_model(tmp_path / "head.keras", safe_mode=True)
        np.testing.assert_array_equal(loaded.predict_on_batch(_rows()), model.predict_on_batch(_rows()))

    def test_is_the_same_behind_a_trunk(self, cache: Any, spec: HeadSpec) -> None:
        image = keras.Input((6, 6, 3), dtype="uint8", name="image")
        trunk = keras.Model(
            image, layers.Conv2D(8, 2, strides=2, name="cut")(layers.Rescaling(1 / 99)(image))
        )
        head = self.model(cache, spec)
        pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 6, 3), np.uint8)
        expected = head.predict_on_batch(trunk.predict_on_batch(pixels))
        np.testing.assert_allclose(stitch(trunk, head).predict_on_batch(pixels), expected, atol=1e-5)

    def test_same_seed_same_head(self, cache: Any, spec: HeadSpec) -> None:
        one, other = (self.train(cache, spec, seed=3).model.get_weights() for _ in range(2))
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("option", OPTIONS)
    def test_takes_what_the_table_says_and_refuses_the_rest(self, kind: str, option: str) -> None:
        of_head = option in OF_THE_HEAD
        given = {option: OPTIONS[option]}

        def ask() -> None:
            head = HeadSpec(kind, **(given if of_head else {}))
            check_effect(head, TrainConfig(**({} if of_head else given)))

        if option in HeadSpec(kind).traits.takes:
            ask()
            return
        with pytest.raises(OptionError, match=f" has no effect with --head {kind}. Remove it"):
            ask()

    def test_does_without_validation(self, cache: Any, spec: HeadSpec) -> None:
        assert self.train(cache, spec, val=0.0).val_count == 0

    def test_takes_several_labels_or_refuses_them(self, multi_label_cache: Any, spec: HeadSpec) -> None:
        if spec.is_function or spec.traits.needs_tail:
            return  # what it is made of decides that: see test_network.py and test_tail.py
        if SEVERAL_LABELS in (spec.traits.tasks or TASKS.values()):
            prepare_training(multi_label_cache[0], spec, None)
            return
        with pytest.raises(OptionError, match="supports one label per image"):
            prepare_training(multi_label_cache[0], spec, None)

    def test_is_trained_further_or_refuses_it(self, cache: Any, spec: HeadSpec) -> None:
        start = self.train(cache, spec)
        config = TrainConfig(epochs=1)
        if spec.is_fitted and not spec.traits.further:
            with pytest.raises(OptionError, match="cannot be trained further"):
                train_head(cache, None, config, start=start)
            return
        further = train_head(cache, None, config, start=start)
        assert further.spec.kind == (start.spec.traits.further or start.spec.kind)


@pytest.mark.parametrize("name", [name for name, kind in HEADS.items() if not kind.is_fixed])
class TestHeadsOfTheTable(HeadContract):
    @pytest.fixture
    def kind(self, name: str) -> str:
        return name


@pytest.mark.parametrize("kind", HEADS)
def test_has_a_line_of_help(kind: str) -> None:
    assert 0 < len(HEADS[kind].help) < 80


class TestTexts(HeadContract):
    """The rows of the texts are the directions in which the classes lie."""

    @pytest.fixture
    def kind(self) -> str:
        return "text"

    @pytest.fixture
    def cache(self, make_cache: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        cache, features, labels = make_cache(shape=SHAPE)
        rows = features.mean(axis=(1, 2))
        means = np.stack([rows[labels == label].mean(axis=0) for label in range(3)])
        return _with_texts(cache, means, monkeypatch)

    @pytest.fixture
    def multi_label_cache(self, multi_label_cache: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        return _with_texts(multi_label_cache[0], np.eye(3, 8), monkeypatch), *multi_label_cache[1:]


def test_texts_need_a_base_that_has_read_some(make_cache: Any) -> None:
    for head in (HeadSpec("text"), HeadSpec("linear", prompts="a {}")):
        with pytest.raises(OptionError, match="none has no text tower: it cannot tell classes by their name"):
            train_head(make_cache()[0], head)


def _with_texts(cache: Any, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cache whose base has a text tower, which makes these rows (C, D) of the names of its classes."""
    tower = TextTower(
        *("a {}", "none", "none"),
        tokenize=lambda texts: np.arange(len(texts))[:, None],
        load=lambda: Matched(lambda ids: rows[ids[:, 0]], 10.0),
    )
    monkeypatch.setattr("fastcls.training.heads.text.open_text_tower", lambda base: tower)
    monkeypatch.setattr("fastcls.extraction.fingerprint.require_same_base", lambda cache: None)
    cache.manifest = replace(cache.manifest, weights="own")
    return cache


class TestFunctions(HeadContract):
    @pytest.fixture
    def kind(self, tmp_path: Path) -> str:
        file = tmp_path / "mine.py"
        file.write_text(FUNCTION)
        return f"{file}:head"


def fit_dummy(spec: HeadSpec, train: Any, val: Any, classes: int, *, progress: bool = False) -> FittedHead:
    """A head that is fitted at once: nearer class means count more with each higher power."""
    rows, labels = train.rows.read().mean(axis=(1, 2)), train.labels
    means = np.stack([rows[labels == label].mean(axis=0) for label in range(classes)])
    bottleneck = keras.Input(train.rows.read().shape[1:], name="bottleneck")
    dense = layers.Dense(classes, activation="softmax", name="means")
    head = named_head(bottleneck, dense(layers.GlobalAveragePooling2D(name="average")(bottleneck)))
    dense.set_weights([means.T, -(means**2).sum(axis=1) / 2])
    right = np.mean(head.predict_on_batch(val.rows.read()).argmax(axis=1) == val.labels) if val else 0.0
    history = [
        {"power": power, "val_accuracy": float(right), "val_loss": 1.0, "seconds": 0.1} for power in (1, 2)
    ]
    return FittedHead(head, history, history[0])


class TestANewHead(HeadContract):
    """One entry in the table is all that a new head takes."""

    @pytest.fixture
    def kind(self, monkeypatch: pytest.MonkeyPatch) -> str:
        step = Step("power", "power", "powers")
        monkeypatch.setitem(HEADS, "dummy", HeadKind("a dummy", fit=f"{__name__}:fit_dummy", step=step))
        return "dummy"


def _tail() -> Any:
    keras.utils.set_random_seed(0)
    start = keras.Input(SHAPE)
    return keras.Model(start, layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1, activation="relu")(start)))


def _rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32)

"""One representation of an option: a field of a spec, from which all else is made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from requests_support import parse, save

from fastcls.cli.main import cli
from fastcls.cli.options import SpecCommand, run_options
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec, HeadSpec, LogSpec, LossSpec, OptimizerSpec, TrainConfig
from fastcls.specs.data import SplitSpec
from fastcls.specs.extraction import ExtractConfig
from fastcls.specs.folds import FoldSpec
from fastcls.specs.option import option
from fastcls.specs.options import options_of, settle
from fastcls.specs.serving import ServeSpec

TEXTS = {
    "base": ["resnet18", "net.keras"],
    "weights": ["random", "imagenet", "w.h5"],
    "size": ["32", "24x40"],
    "normalize": ["tf", "0.5,0.25", "127.5,128"],
    "cut": ["conv4", "fc2"],
    "augment": ["flip", "rotate=5,crop=0.5", "photos"],
    "train": ["all", "none", "3", "from conv4"],
    "head": ["linear", "tail", "logreg", "prototype", "knn", "head.py:make"],
    "layers": ["8", "256,0.4", "0.5,16,8"],
    "from": ["runs/one"],
    "engine": ["auto", "openvino", "mine:Engine"],
    "rate_minimum": ["1e-5"],
    "rate_patience": ["2"],
    "class_weight_multiplier": ["0.5"],
    "val": ["0.1", "0"],
    "test": ["0.3"],
    "threshold": ["single", "per-class", "0.4"],
    "delimiter": [";", "tab"],
}
COMMANDS = {
    "train-head": ["cache", "--out", "run"],
    "run": ["photos", "--out", "run", "--base", "resnet18"],
    "finetune": ["photos", "--out", "run", "--base", "resnet18"],
}


# Without one of these, other options have no effect.
CHOICES = [
    *("", "--optimizer sgd", "--optimizer AdamW", "--schedule plateau", "--schedule cosine", "--head tail"),
    *("--checkpoint-every 2", "--class-weight log", "--views 3", "--schedule exponential"),
    *("--folds 3", "--executor ray"),
]


@pytest.mark.parametrize("name", COMMANDS)
def test_any_valid_options_come_back_from_the_record_of_their_run(tmp_path, name):
    random, valid, used = np.random.default_rng(0), 0, set()
    flags = {part for parameter in cli.commands[name].params for part in parameter.opts}
    options = [own for own in cli.commands[name].options.values() if own.flag in flags]
    # Each option with each choice, and with two others beside some of them.
    others = [*((choice, 0) for choice in CHOICES), *((choice, 2) for choice in random.choice(CHOICES, 3))]
    for own, (choice, more) in itertools.product(options, others):
        chosen = {own.name: own, **{each.name: each for each in random.choice(options, more)}}
        typed = [*choice.split(), *(part for each in chosen.values() for part in spell(each, random))]
        try:
            made = parse(name, [*COMMANDS[name], *typed])
        except (click.UsageError, OptionError):
            continue
        valid += 1
        used |= chosen.keys()
        path = save(tmp_path, name, made)
        again = parse(name, [*COMMANDS[name][:3], "--config", str(path)])
        assert again == made, typed
    assert valid > 100
    assert {each.name for each in options} - used <= {"from"}  # which is instead of a base


def spell(own, random) -> list[str]:
    """An option with a random value, as it is typed."""
    if bool in own.types:
        return [own.flag]
    if own.name in TEXTS or own.choices:
        return [own.flag, str(random.choice(list(TEXTS.get(own.name) or own.choices)))]
    if str in own.types:
        return [own.flag, "text"]
    low = own.low if own.low is not None else own.above or 0
    high = own.high or own.below or low + 30
    number = random.uniform(low, high)
    return [own.flag, str(int(number) + 1 if int in own.types else round(number, 3) + 0.001)]


@dataclass(frozen=True)
class DummyConfig(TrainConfig):
    """A training with one option more: this field is all that it takes."""

    shakes: int = option(3, "Shakes of the tree per epoch.", low=1, high=9)


@click.command(cls=SpecCommand, specs={"training": DummyConfig})
@run_options
def dummy(out: str, restart: bool, dry_run: bool, training: DummyConfig) -> None:
    """A command that takes it."""


def test_a_new_option_is_one_field(tmp_path):
    shown = " ".join(CliRunner().invoke(dummy, ["--help"]).output.split())
    assert "--shakes INTEGER Shakes of the tree per epoch. [default: 3]" in shown
    assert "shakes: Shakes of the tree per epoch. [default: 3]" in help_of(DummyConfig)
    made = parse("dummy", ["--out", "x", "--shakes", "5", "--epochs", "7"], dummy)
    assert made["training"] == DummyConfig(epochs=7, shakes=5)
    path = save(tmp_path, "dummy", made)
    assert parse("dummy", ["--out", "x", "--config", str(path)], dummy) == made
    with pytest.raises(OptionError, match=r"shakes must be 1 or more and at most 9\. Received: 10"):
        parse("dummy", ["--out", "x", "--shakes", "10"], dummy)
    with pytest.raises(OptionError, match=r"shakes must be a whole number\. Received: 2\.5"):
        DummyConfig(shakes=2.5)  # type: ignore[arg-type]


def help_of(spec: type) -> str:
    """The docstring of a spec with its own options."""
    from fastcls.specs.options import described

    return described(spec).__doc__ or ""


@pytest.mark.parametrize("layers", ["256,0.4", [256, 0.4], (256, 0.4)], ids=str)
def test_layers_mean_the_same_in_every_form(layers):
    assert HeadSpec(layers=layers) == HeadSpec(layers=(256, 0.4))


@pytest.mark.parametrize("layers", ["256.0", [256.0], (True,), "a", 3.5, [[8]], None, 10**7])
def test_layers_that_are_none_are_refused_in_every_form(layers):
    with pytest.raises(OptionError):
        HeadSpec(layers=layers)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: TrainConfig(epochs="3"), "epochs must be a whole number. Received: '3'"),
        (lambda: TrainConfig(epochs=True), "epochs must be a whole number. Received: True"),
        (lambda: TrainConfig(learning_rate=float("nan")), "learning_rate must be positive. Received: nan"),
        (lambda: TrainConfig(threshold="x"), "a number or one of single, per-class. Received: 'x'"),
        (lambda: TrainConfig(allow_stale=1), "allow_stale must be true or false"),
        (lambda: HeadSpec(5), "Unknown head: 5. Choose one of: auto, linear"),
        (lambda: BaseSpec("lenet5", weights=5), "weights must be text. Received: 5"),
        (lambda: OptimizerSpec(["Adam"]), r"optimizer must be one of SGD, .*\. Received: \['Adam'\]"),
        (lambda: TrainConfig(optimizer=5), "optimizer must be of type OptimizerSpec, .*Received: 5"),
        (lambda: TrainConfig(loss=0.5), "loss must be of type LossSpec, or a mapping .*Received: 0.5"),
        (lambda: TrainConfig(logs={"steps": 2}), "a mapping of its fields log_steps, confusion_every"),
        (lambda: LossSpec(l2=float("inf")), "l2 must be 0 or more"),
        (lambda: LossSpec(class_weight_multiplier=2), "no effect with --class-weight none. Remove it."),
        (lambda: OptimizerSpec(momentum=0.5), "--momentum has no effect with --optimizer Adam. Remove it."),
    ],
)
def test_specs_check_their_values_in_python_too(make, complaint):
    with pytest.raises(OptionError, match=complaint):
        make()


def test_values_are_settled():
    config = TrainConfig("sgd", epochs=np.int64(3), learning_rate=1, schedule="cosine", logs={"log_steps": 2})
    assert config == TrainConfig(OptimizerSpec("SGD"), 3, 32, 1.0, config.schedule, logs=LogSpec(2))
    assert type(config.epochs) is int and type(config.learning_rate) is float
    assert BaseSpec(Path("net.keras"), Path("w.h5")) == BaseSpec("net.keras", "w.h5")


def test_a_spec_of_a_user_is_checked_as_ours():
    @dataclass(frozen=True)
    class Own:
        share: float = option(0.5, "A share.", above=0, high=1)

        def __post_init__(self) -> None:
            settle(self)

    with pytest.raises(OptionError, match=r"share must be above 0 and at most 1\. Received: 0\.0"):
        Own(0)  # type: ignore[arg-type]


def test_no_whole_number_is_too_large_to_be_refused():
    kinds = [TrainConfig, ExtractConfig, ServeSpec, FoldSpec, SplitSpec]
    options = [each for kind in kinds for each in options_of(kind).values()]
    found = {each.name: each for each in options if each.types[:1] == (int,)}
    assert len(found) > 10
    for each, value in itertools.product(found.values(), (2**64, 10**400)):
        with pytest.raises(OptionError, match=f"{each.name} must be at most .*. Received: 1"):
            each.check(value)
        with pytest.raises(OptionError, match=rf"{each.name} must be -?\d+ or more.*. Received: -1"):
            each.check(-value)


@pytest.mark.parametrize("value", [1e300, 4e38])
def test_no_number_is_beyond_float32(value):
    kinds = [TrainConfig, OptimizerSpec]
    options = [each for kind in kinds for each in options_of(kind).values() if float in each.types]
    assert len(options) > 5
    for each in options:
        with pytest.raises(OptionError, match=rf"{each.name} must be (within|.*at most|.*below)"):
            each.check(value)

"""No option that is typed, or that a recipe sets, is left without effect in silence."""

from __future__ import annotations

import click
import pytest
from requests_support import parse

from fastcls.errors import OptionError
from fastcls.specs import (
    HEADS,
    CutSpec,
    FinetuneSpec,
    HeadSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainConfig,
    ViewSpec,
    check_effect,
    choose_head,
    with_quality,
)
from fastcls.specs.options import options_of, value_at
from fastcls.specs.qualities import QUALITIES

COMMANDS = {
    "train-head": ["cache", "--out", "run"],
    "run": ["photos", "--out", "run", "--base", "lenet5"],
    "finetune": ["photos", "--out", "run", "--base", "lenet5"],
}
OF_VALIDATION = {
    "--patience": "3",
    "--min-accuracy": "0.5",
    "--confusion-every": "2",
    "--checkpoint-best-only": "",
    "--no-refit": "",
}
SIZES = {"rows": 100, "features": 1280, "classes": 5}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_quality__what_a_head_does_not_take_of_it_is_named(capsys, caplog, quality, kind):
    made = parse("run", [*COMMANDS["run"], "--quality", quality, "--head", kind])
    told, taken = capsys.readouterr().err, 0
    for name, value in QUALITIES[quality].items():
        places = [
            (own, made[member])
            for member in ("cut", "views", "head", "training")
            for own in options_of(type(made[member][0] if member == "cut" else made[member])).values()
            if name in own.names
        ]
        ((own, spec),) = places
        found = value_at(spec[0] if isinstance(spec, list) else spec, own.path)
        is_taken = found == value or own.flag == "--head"
        assert is_taken != (own.spell(value) in told)
        taken += is_taken
    assert (
        taken
        and (f"with --head {kind}: that part of --quality {quality} is left out" in told)
        == (taken < len(QUALITIES[quality]))
    ) or quality == "fast"
    caplog.clear()
    with_quality(quality, CutSpec("lenet5"), ViewSpec(), HeadSpec(kind), TrainConfig())
    if kind != "auto":  # which is what the recipe replaces
        assert [record.message for record in caplog.records] == told.splitlines()


@pytest.mark.parametrize("flag", OF_VALIDATION)
@pytest.mark.parametrize("name", COMMANDS)
def test_without_validation_its_options_are_refused(name, flag):
    if name == "finetune" and flag == "--no-refit":
        pytest.skip("finetune has no such option")
    more = ["--checkpoint-every", "1"] if flag == "--checkpoint-best-only" else []
    typed = [*COMMANDS[name], *more, *filter(None, (flag, OF_VALIDATION[flag]))]
    parse(name, [*typed, "--val", "0.2"])
    with pytest.raises(click.UsageError, match=f"^{flag} has no effect with --val 0. Remove it.$"):
        parse(name, [*typed, "--val", "0"])


def test_without_validation_its_options_are_refused_in_python():
    with pytest.raises(OptionError, match="--patience has no effect with --val 0"):
        TrainConfig(patience=3, val=0.0)
    with pytest.raises(OptionError, match="--no-refit has no effect with --val 0"):
        check_effect(HeadSpec(refit=False), TrainConfig(val=0.0))


def test_train_none__trains_no_batch_normalization():
    with pytest.raises(OptionError, match="--train-batch-norm has no effect with --train none"):
        FinetuneSpec("none", train_batch_norm=True)


HEAD_OPTIONS = {
    "--layers": HeadSpec(layers=(8,)),
    "--bottleneck-norm": HeadSpec(bottleneck_norm="batch"),
    "--bottleneck-norm l2": HeadSpec(bottleneck_norm="l2"),
    "--no-refit": HeadSpec(refit=False),
    "--layers --no-refit": HeadSpec(layers=(8,), refit=False),
    "--bottleneck-norm --no-refit": HeadSpec(bottleneck_norm="batch", refit=False),
    "": HeadSpec(),
}
TRAINING = [
    TrainConfig(),
    TrainConfig(epochs=3),
    TrainConfig(OptimizerSpec("SGD", momentum=0.9)),
    TrainConfig(schedule=ScheduleSpec("cosine"), loss=LossSpec(l2=0.0)),
    TrainConfig(threshold="single"),
]


@pytest.mark.parametrize("flags", HEAD_OPTIONS)
@pytest.mark.parametrize("config", TRAINING, ids=range(len(TRAINING)))
@pytest.mark.parametrize("views", [1, 8])
@pytest.mark.parametrize("rows", [100, 10**6])
def test_auto__what_its_head_does_not_take_is_named(flags, config, views, rows):
    head = HEAD_OPTIONS[flags]
    choice = choose_head(head, config, **{**SIZES, "rows": rows}, views=views)
    for asked in (head, config):
        for own in options_of(type(asked)).values():
            is_asked = value_at(asked, own.path) != own.default
            of_heads = any(own.path[0] in kind.takes for kind in HEADS.values())
            if is_asked and of_heads and own.path[0] not in choice.head.traits.takes:
                assert f"{own.flag} changes nothing there" in choice.why
    assert ("changes nothing" in choice.why) == (not head.refit and choice.head.kind == "linear")

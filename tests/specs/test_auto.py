"""What `--head auto` stands for."""

from __future__ import annotations

import pytest

from fastcls.specs import (
    LARGEST_FIT,
    CheckpointSpec,
    HeadSpec,
    LogSpec,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainConfig,
    check_effect,
    choose_head,
)
from fastcls.specs.options import options_of

SIZES = {"rows": 100, "features": 1280, "classes": 5}


def test_choose_head__nothing_asks_for_epochs():
    for head in (HeadSpec(), HeadSpec(refit=False), HeadSpec(bottleneck_norm="l2")):
        choice = choose_head(head, TrainConfig(seed=3, val=0.1, threshold="per-class"), **SIZES)
        assert choice.head == HeadSpec("logreg", bottleneck_norm=head.bottleneck_norm, refit=head.refit)
        assert choice.why == "--head auto takes logreg (logistic regression)"
        assert choice.config.loss == LossSpec()


@pytest.mark.parametrize(
    ("head", "config", "flags"),
    [
        (HeadSpec(layers=(8,)), TrainConfig(), "--layers was"),
        (HeadSpec(bottleneck_norm="batch"), TrainConfig(), "--bottleneck-norm batch was"),
        (HeadSpec(), TrainConfig(epochs=3), "--epochs was"),
        (HeadSpec(), TrainConfig(epochs=3, patience=2), "--epochs and --patience were"),
        (HeadSpec(), TrainConfig(OptimizerSpec("SGD", momentum=0.9)), "--optimizer and --momentum were"),
        (HeadSpec(), TrainConfig(schedule=ScheduleSpec("cosine")), "--schedule was"),
        (HeadSpec(), TrainConfig(loss=LossSpec(l2=0.0)), "--l2 was"),
        (HeadSpec(), TrainConfig(sampling="balanced"), "--sampling was"),
        (HeadSpec(), TrainConfig(checkpoints=CheckpointSpec(checkpoint_every=0)), "--checkpoint-every was"),
        (HeadSpec(), TrainConfig(logs=LogSpec(log_steps=1)), "--log-steps was"),
    ],
    ids=str,
)
def test_choose_head__an_option_asks_for_epochs(head, config, flags):
    choice = choose_head(head, config, **SIZES)
    assert choice.head.kind == "linear" and choice.why == f"--head auto takes linear, as {flags} given"


def test_choose_head__every_option_has_an_effect_or_a_head_that_takes_it():
    for own in options_of(TrainConfig).values():
        choice = choose_head(HeadSpec(refit=False), TrainConfig(), given=[own], **SIZES)
        check_effect(choice.head, choice.config)
        takes_it = own.path[0] in choice.head.traits.takes
        assert takes_it == (choice.head.kind == "linear") == (f"{own.flag} was given" in choice.why)


def test_choose_head__sizes_and_views():
    limit = {"rows": LARGEST_FIT // 1000, "features": 100, "classes": 10}
    assert choose_head(HeadSpec(), TrainConfig(), **limit).head.kind == "logreg"
    above = choose_head(HeadSpec(refit=False), TrainConfig(), **{**limit, "rows": limit["rows"] + 1})
    assert above.head == HeadSpec("linear") and ", more than 500,000,000; --no-refit changes" in above.why
    viewed = choose_head(HeadSpec(), TrainConfig(), views=8, **SIZES)
    assert viewed.head == HeadSpec("linear") and "as there are 8 views of each image" in viewed.why


def test_choose_head__other_heads_stay_and_only_a_lone_softmax_layer_is_penalized():
    def penalty(head: HeadSpec, **loss: float) -> float | None:
        choice = choose_head(head, TrainConfig(loss=LossSpec(**loss)), **SIZES)
        assert choice.head == head and not choice.why
        return choice.config.loss.l2

    assert penalty(HeadSpec("linear")) == 0.003 and penalty(HeadSpec("linear"), l2=0.0) == 0
    assert penalty(HeadSpec("linear", layers=(8,))) == penalty(HeadSpec("tail")) == 0
    assert penalty(HeadSpec("linear", bottleneck_norm="l2")) == 0
    assert penalty(HeadSpec("knn")) is None

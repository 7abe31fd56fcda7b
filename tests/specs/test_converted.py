"""A name stands for the options that it begins with, and what is read is always these options."""

import copy
import pickle
from dataclasses import asdict, replace

import pytest

from fastcls.errors import OptionError
from fastcls.specs import BaseSpec, CutSpec, OptimizerSpec, ScheduleSpec, TrainConfig


def test_converted__a_name_is_what_it_stands_for():
    short, long = CutSpec("resnet50", "conv1"), CutSpec(BaseSpec("resnet50"), "conv1")
    assert (short, hash(short), repr(short), asdict(short)) == (long, hash(long), repr(long), asdict(long))
    short = TrainConfig(optimizer="adamw", schedule="cosine")
    assert short == TrainConfig(optimizer=OptimizerSpec("AdamW"), schedule=ScheduleSpec("cosine"))
    assert TrainConfig().optimizer == OptimizerSpec() and TrainConfig.optimizer == OptimizerSpec()


def test_converted__survives_copies():
    config = TrainConfig(optimizer="SGD")
    for copied in (replace(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert copied == config and copied.optimizer.name == "SGD"
    assert replace(config, optimizer="Adam").optimizer == OptimizerSpec("Adam")


def test_converted__is_checked_and_frozen():
    with pytest.raises(OptionError, match="Unknown optimizer"):
        TrainConfig(optimizer="Adom")
    with pytest.raises(TypeError, match="base"):
        CutSpec()
    with pytest.raises(AttributeError):
        CutSpec("resnet50").base = BaseSpec("vgg16")

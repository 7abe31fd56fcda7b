"""What the user asked for: frozen dataclasses, each default written once."""

from fastcls.specs.bases import (
    DTYPES,
    NAMED_WEIGHTS,
    NORMALIZATIONS,
    POOLS,
    PRECISIONS,
    BaseSpec,
    CutSpec,
    check_normalize,
    parse_mean_std,
)
from fastcls.specs.checks import check_at_least, check_choice
from fastcls.specs.data import SplitSpec
from fastcls.specs.extraction import ENGINES, ExtractConfig
from fastcls.specs.optimization import (
    CLASS_WEIGHTS,
    OPTIMIZERS,
    SCHEDULES,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
)
from fastcls.specs.records import CheckpointSpec, LogSpec
from fastcls.specs.training import GRADIENT_ONLY, HeadSpec, TrainConfig

__all__ = [
    "CLASS_WEIGHTS",
    "DTYPES",
    "ENGINES",
    "GRADIENT_ONLY",
    "NAMED_WEIGHTS",
    "NORMALIZATIONS",
    "OPTIMIZERS",
    "POOLS",
    "PRECISIONS",
    "SCHEDULES",
    "BaseSpec",
    "CheckpointSpec",
    "CutSpec",
    "ExtractConfig",
    "HeadSpec",
    "LogSpec",
    "LossSpec",
    "OptimizerSpec",
    "ScheduleSpec",
    "SplitSpec",
    "TrainConfig",
    "check_at_least",
    "check_choice",
    "check_normalize",
    "parse_mean_std",
]

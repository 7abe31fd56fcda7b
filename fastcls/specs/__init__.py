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
    LOSSES,
    OPTIMIZERS,
    SCHEDULES,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
)
from fastcls.specs.training import GRADIENT_ONLY, SAMPLINGS, THRESHOLDS, HeadSpec, TrainConfig

__all__ = [
    "CLASS_WEIGHTS",
    "DTYPES",
    "ENGINES",
    "GRADIENT_ONLY",
    "LOSSES",
    "NAMED_WEIGHTS",
    "NORMALIZATIONS",
    "OPTIMIZERS",
    "POOLS",
    "PRECISIONS",
    "SAMPLINGS",
    "SCHEDULES",
    "THRESHOLDS",
    "BaseSpec",
    "CutSpec",
    "ExtractConfig",
    "HeadSpec",
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

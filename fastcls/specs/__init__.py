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
    default_pool,
    parse_mean_std,
)
from fastcls.specs.checks import check_at_least, check_choice
from fastcls.specs.data import SplitSpec
from fastcls.specs.extraction import ENGINES, ExtractConfig
from fastcls.specs.finetuning import MIXED_PRECISIONS, FinetuneSpec
from fastcls.specs.optimization import (
    CLASS_WEIGHTS,
    OPTIMIZERS,
    SCHEDULES,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
)
from fastcls.specs.records import CheckpointSpec, LogSpec
from fastcls.specs.training import (
    FITTED_HEADS,
    GRADIENT_ONLY,
    HEADS,
    LBFGS,
    NORMS,
    HeadSpec,
    TrainConfig,
    check_effect,
    specs_of_run,
)

__all__ = [
    "CLASS_WEIGHTS",
    "DTYPES",
    "ENGINES",
    "FITTED_HEADS",
    "GRADIENT_ONLY",
    "HEADS",
    "LBFGS",
    "MIXED_PRECISIONS",
    "NAMED_WEIGHTS",
    "NORMALIZATIONS",
    "NORMS",
    "OPTIMIZERS",
    "POOLS",
    "PRECISIONS",
    "SCHEDULES",
    "BaseSpec",
    "CheckpointSpec",
    "CutSpec",
    "ExtractConfig",
    "FinetuneSpec",
    "HeadSpec",
    "LogSpec",
    "LossSpec",
    "OptimizerSpec",
    "ScheduleSpec",
    "SplitSpec",
    "TrainConfig",
    "check_at_least",
    "check_choice",
    "check_effect",
    "check_normalize",
    "default_pool",
    "parse_mean_std",
    "specs_of_run",
]

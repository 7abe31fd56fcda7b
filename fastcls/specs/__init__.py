"""What the user asked for: frozen dataclasses, each default written once."""

from fastcls.specs.answers import UNSURE, AnswerSpec, check_answer
from fastcls.specs.auto import LARGEST_FIT, HeadChoice, choose_head, deciding
from fastcls.specs.bases import (
    DTYPES,
    NAMED_WEIGHTS,
    NORMALIZATIONS,
    POOLS,
    PRECISIONS,
    TOKEN_POOLS,
    BaseSpec,
    CutSpec,
    default_pool,
    parse_mean_std,
    share_of,
)
from fastcls.specs.checks import as_list, check_at_least, check_choice, check_type, no_effect
from fastcls.specs.comparison import beyond, differences, differing, resolve
from fastcls.specs.corrections import CorrectionSpec
from fastcls.specs.data import ReadSpec, SplitSpec
from fastcls.specs.explaining import COLORMAPS, METHODS, DrawSpec, ExplainSpec
from fastcls.specs.extraction import ENGINES, EXECUTORS, ExecutorKind, ExtractConfig
from fastcls.specs.finetuning import FinetuneSpec
from fastcls.specs.folds import FoldSpec
from fastcls.specs.heads import AUTO, EPOCH, HEADS, HeadKind, HeadSpec, StartSpec, Step, step_of
from fastcls.specs.optimization import (
    OPTIMIZERS,
    SCHEDULES,
    LossSpec,
    OptimizerSpec,
    ScheduleSpec,
)
from fastcls.specs.outputs import CheckpointSpec, LogSpec
from fastcls.specs.pixels import PixelRule
from fastcls.specs.qualities import QUALITIES, QualitySpec, with_quality
from fastcls.specs.testing import FeaturesSpec, ResultSpec
from fastcls.specs.training import (
    TrainConfig,
    check_cut,
    check_effect,
    check_labels,
    further_head,
)
from fastcls.specs.views import OPERATIONS, RECIPES, Recipe, ViewSpec

__all__ = [
    "AUTO",
    "COLORMAPS",
    "DTYPES",
    "ENGINES",
    "EPOCH",
    "EXECUTORS",
    "HEADS",
    "LARGEST_FIT",
    "METHODS",
    "NAMED_WEIGHTS",
    "NORMALIZATIONS",
    "OPERATIONS",
    "OPTIMIZERS",
    "POOLS",
    "PRECISIONS",
    "QUALITIES",
    "RECIPES",
    "SCHEDULES",
    "TOKEN_POOLS",
    "UNSURE",
    "AnswerSpec",
    "BaseSpec",
    "CheckpointSpec",
    "CorrectionSpec",
    "CutSpec",
    "DrawSpec",
    "ExecutorKind",
    "ExplainSpec",
    "ExtractConfig",
    "FeaturesSpec",
    "FinetuneSpec",
    "FoldSpec",
    "HeadChoice",
    "HeadKind",
    "HeadSpec",
    "LogSpec",
    "LossSpec",
    "OptimizerSpec",
    "PixelRule",
    "QualitySpec",
    "ReadSpec",
    "Recipe",
    "ResultSpec",
    "ScheduleSpec",
    "SplitSpec",
    "StartSpec",
    "Step",
    "TrainConfig",
    "ViewSpec",
    "as_list",
    "beyond",
    "check_answer",
    "check_at_least",
    "check_choice",
    "check_cut",
    "check_effect",
    "check_labels",
    "check_type",
    "choose_head",
    "deciding",
    "default_pool",
    "differences",
    "differing",
    "further_head",
    "no_effect",
    "parse_mean_std",
    "resolve",
    "share_of",
    "step_of",
    "with_quality",
]

"""fastcls: a folder of images in, a classifier out; each image goes through the frozen trunk once, ever."""

from __future__ import annotations

__version__ = "0.1.0"

# As `typing` has it. Nothing is imported here: a signal in that moment would end a command with a traceback.
TYPE_CHECKING = False

if TYPE_CHECKING:  # what type checkers and editors see
    from fastcls.bases.loader import Base as Base
    from fastcls.bases.loader import load_base as load_base
    from fastcls.cache.store import Cache as Cache
    from fastcls.caching.collector import Garbage as Garbage
    from fastcls.caching.collector import gc_cache as gc_cache
    from fastcls.caching.describer import CacheInfo as CacheInfo
    from fastcls.caching.describer import CacheSummary as CacheSummary
    from fastcls.caching.describer import cache_info as cache_info
    from fastcls.caching.describer import list_caches as list_caches
    from fastcls.caching.exporter import ExportedCache as ExportedCache
    from fastcls.caching.exporter import export_cache as export_cache
    from fastcls.caching.merger import Merged as Merged
    from fastcls.caching.merger import merge_caches as merge_caches
    from fastcls.caching.repairer import Repaired as Repaired
    from fastcls.caching.repairer import repair_cache as repair_cache
    from fastcls.caching.verifier import Verified as Verified
    from fastcls.caching.verifier import verify_cache as verify_cache
    from fastcls.calibrator import Calibrated as Calibrated
    from fastcls.calibrator import calibrate as calibrate
    from fastcls.comparison.bases import compare_bases as compare_bases
    from fastcls.comparison.ranking import BaseComparison as BaseComparison
    from fastcls.comparison.runs import RunComparison as RunComparison
    from fastcls.comparison.runs import compare_runs as compare_runs
    from fastcls.cutter import Cut as Cut
    from fastcls.cutter import cut as cut
    from fastcls.data.dataset import Dataset as Dataset
    from fastcls.data.dataset import Sample as Sample
    from fastcls.data.splitter import split as split
    from fastcls.data.video import Camera as Camera
    from fastcls.data.video import Video as Video
    from fastcls.data.writers.split import SplitResult as SplitResult
    from fastcls.data.writers.split import write_split as write_split
    from fastcls.errors import CacheError as CacheError
    from fastcls.errors import DataError as DataError
    from fastcls.errors import FastclsError as FastclsError
    from fastcls.errors import MissingExtraError as MissingExtraError
    from fastcls.errors import OptionError as OptionError
    from fastcls.errors import WorkerError as WorkerError
    from fastcls.evaluation.auditing import Audit as Audit
    from fastcls.evaluation.auditing import Issue as Issue
    from fastcls.evaluation.auditing import audit as audit
    from fastcls.evaluation.cross_validation import CrossValidation as CrossValidation
    from fastcls.evaluation.cross_validation import cross_validate as cross_validate
    from fastcls.evaluation.features import Features as Features
    from fastcls.evaluation.learning_curve import LearningCurve as LearningCurve
    from fastcls.evaluation.learning_curve import learning_curve as learning_curve
    from fastcls.evaluation.one_label import Evaluation as Evaluation
    from fastcls.evaluation.one_label import evaluate as evaluate
    from fastcls.evaluation.several_labels import MultiLabelEvaluation as MultiLabelEvaluation
    from fastcls.evaluation.several_labels import evaluate_multi_label as evaluate_multi_label
    from fastcls.evaluation.tester import Tested as Tested
    from fastcls.exporting.exporter import Exported as Exported
    from fastcls.exporting.exporter import export as export
    from fastcls.extraction.extractor import extract as extract
    from fastcls.extraction.extractor import extract_several as extract_several
    from fastcls.extraction.tracker import Extraction as Extraction
    from fastcls.inference.classifier import Classifier as Classifier
    from fastcls.inference.explainer import Explanation as Explanation
    from fastcls.inference.explainer import explain as explain
    from fastcls.inference.results import ImageResult as ImageResult
    from fastcls.inference.results import Predictions as Predictions
    from fastcls.inference.stitcher import stitch as stitch
    from fastcls.pipeline import RunResult as RunResult
    from fastcls.pipeline import run as run
    from fastcls.report.reporter import write_report as write_report
    from fastcls.serving.server import serve as serve
    from fastcls.specs import BaseSpec as BaseSpec
    from fastcls.specs import CheckpointSpec as CheckpointSpec
    from fastcls.specs import CutSpec as CutSpec
    from fastcls.specs import ExplainSpec as ExplainSpec
    from fastcls.specs import ExtractConfig as ExtractConfig
    from fastcls.specs import FinetuneSpec as FinetuneSpec
    from fastcls.specs import FoldSpec as FoldSpec
    from fastcls.specs import HeadSpec as HeadSpec
    from fastcls.specs import LogSpec as LogSpec
    from fastcls.specs import LossSpec as LossSpec
    from fastcls.specs import OptimizerSpec as OptimizerSpec
    from fastcls.specs import PixelRule as PixelRule
    from fastcls.specs import ReadSpec as ReadSpec
    from fastcls.specs import ScheduleSpec as ScheduleSpec
    from fastcls.specs import SplitSpec as SplitSpec
    from fastcls.specs import TrainConfig as TrainConfig
    from fastcls.specs import ViewSpec as ViewSpec
    from fastcls.specs.comparing import ProbeSpec as ProbeSpec
    from fastcls.specs.serving import ServeSpec as ServeSpec
    from fastcls.suggester import Suggested as Suggested
    from fastcls.suggester import suggest as suggest
    from fastcls.training.finetuner import FinetunedNetwork as FinetunedNetwork
    from fastcls.training.finetuner import finetune as finetune
    from fastcls.training.head_trainer import TrainedHead as TrainedHead
    from fastcls.training.head_trainer import train_head as train_head

# Names are resolved on first use, so that `import fastcls` loads neither TensorFlow nor OpenCV.
_HOMES = {
    "BaseSpec": "fastcls.specs",
    "CheckpointSpec": "fastcls.specs",
    "CutSpec": "fastcls.specs",
    "ExplainSpec": "fastcls.specs",
    "ExtractConfig": "fastcls.specs",
    "FinetuneSpec": "fastcls.specs",
    "FoldSpec": "fastcls.specs",
    "HeadSpec": "fastcls.specs",
    "LogSpec": "fastcls.specs",
    "LossSpec": "fastcls.specs",
    "OptimizerSpec": "fastcls.specs",
    "PixelRule": "fastcls.specs",
    "ReadSpec": "fastcls.specs",
    "ScheduleSpec": "fastcls.specs",
    "SplitSpec": "fastcls.specs",
    "TrainConfig": "fastcls.specs",
    "ViewSpec": "fastcls.specs",
    "ProbeSpec": "fastcls.specs.comparing",
    "ServeSpec": "fastcls.specs.serving",
    "CacheError": "fastcls.errors",
    "DataError": "fastcls.errors",
    "FastclsError": "fastcls.errors",
    "MissingExtraError": "fastcls.errors",
    "OptionError": "fastcls.errors",
    "WorkerError": "fastcls.errors",
    "Dataset": "fastcls.data.dataset",
    "Sample": "fastcls.data.dataset",
    "split": "fastcls.data.splitter",
    "Camera": "fastcls.data.video",
    "Video": "fastcls.data.video",
    "SplitResult": "fastcls.data.writers.split",
    "write_split": "fastcls.data.writers.split",
    "Cache": "fastcls.cache.store",
    "cache_info": "fastcls.caching.describer",
    "list_caches": "fastcls.caching.describer",
    "CacheInfo": "fastcls.caching.describer",
    "CacheSummary": "fastcls.caching.describer",
    "verify_cache": "fastcls.caching.verifier",
    "Verified": "fastcls.caching.verifier",
    "repair_cache": "fastcls.caching.repairer",
    "Repaired": "fastcls.caching.repairer",
    "gc_cache": "fastcls.caching.collector",
    "Garbage": "fastcls.caching.collector",
    "merge_caches": "fastcls.caching.merger",
    "Merged": "fastcls.caching.merger",
    "export_cache": "fastcls.caching.exporter",
    "ExportedCache": "fastcls.caching.exporter",
    "Calibrated": "fastcls.calibrator",
    "calibrate": "fastcls.calibrator",
    "Base": "fastcls.bases.loader",
    "load_base": "fastcls.bases.loader",
    "Cut": "fastcls.cutter",
    "cut": "fastcls.cutter",
    "Exported": "fastcls.exporting.exporter",
    "export": "fastcls.exporting.exporter",
    "Extraction": "fastcls.extraction.tracker",
    "extract": "fastcls.extraction.extractor",
    "extract_several": "fastcls.extraction.extractor",
    "TrainedHead": "fastcls.training.head_trainer",
    "train_head": "fastcls.training.head_trainer",
    "FinetunedNetwork": "fastcls.training.finetuner",
    "finetune": "fastcls.training.finetuner",
    "stitch": "fastcls.inference.stitcher",
    "Classifier": "fastcls.inference.classifier",
    "Explanation": "fastcls.inference.explainer",
    "explain": "fastcls.inference.explainer",
    "ImageResult": "fastcls.inference.results",
    "Predictions": "fastcls.inference.results",
    "Audit": "fastcls.evaluation.auditing",
    "Issue": "fastcls.evaluation.auditing",
    "audit": "fastcls.evaluation.auditing",
    "Features": "fastcls.evaluation.features",
    "CrossValidation": "fastcls.evaluation.cross_validation",
    "cross_validate": "fastcls.evaluation.cross_validation",
    "LearningCurve": "fastcls.evaluation.learning_curve",
    "learning_curve": "fastcls.evaluation.learning_curve",
    "Evaluation": "fastcls.evaluation.one_label",
    "evaluate": "fastcls.evaluation.one_label",
    "MultiLabelEvaluation": "fastcls.evaluation.several_labels",
    "evaluate_multi_label": "fastcls.evaluation.several_labels",
    "Tested": "fastcls.evaluation.tester",
    "RunResult": "fastcls.pipeline",
    "run": "fastcls.pipeline",
    "BaseComparison": "fastcls.comparison.ranking",
    "compare_bases": "fastcls.comparison.bases",
    "RunComparison": "fastcls.comparison.runs",
    "compare_runs": "fastcls.comparison.runs",
    "write_report": "fastcls.report.reporter",
    "serve": "fastcls.serving.server",
    "Suggested": "fastcls.suggester",
    "suggest": "fastcls.suggester",
}

__all__ = ["__version__", *_HOMES]


if not TYPE_CHECKING:  # else every name would be there, of any type

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module 'fastcls' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

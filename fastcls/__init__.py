"""fastcls: a folder of images in, a classifier out; each image goes through the frozen trunk once, ever."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # what type checkers and editors see
    from fastcls.bases.loader import load_base as load_base
    from fastcls.cache.store import Cache as Cache
    from fastcls.cutter import cut as cut
    from fastcls.data.dataset import Dataset as Dataset
    from fastcls.data.dataset import Sample as Sample
    from fastcls.data.split_writer import write_split as write_split
    from fastcls.data.splitter import split as split
    from fastcls.errors import FastclsError as FastclsError
    from fastcls.evaluation.one_label import evaluate as evaluate
    from fastcls.extraction.extractor import extract as extract
    from fastcls.extraction.extractor import extract_several as extract_several
    from fastcls.inference.classifier import Classifier as Classifier
    from fastcls.inference.stitcher import stitch as stitch
    from fastcls.pipeline import run as run
    from fastcls.specs import BaseSpec as BaseSpec
    from fastcls.specs import CutSpec as CutSpec
    from fastcls.specs import ExtractConfig as ExtractConfig
    from fastcls.specs import FinetuneSpec as FinetuneSpec
    from fastcls.specs import HeadSpec as HeadSpec
    from fastcls.specs import PixelRule as PixelRule
    from fastcls.specs import SplitSpec as SplitSpec
    from fastcls.specs import TrainConfig as TrainConfig
    from fastcls.specs import ViewSpec as ViewSpec
    from fastcls.training.finetuner import finetune as finetune
    from fastcls.training.head_trainer import train_head as train_head

# Names are resolved on first use, so that `import fastcls` loads neither TensorFlow nor OpenCV.
_HOMES = {
    "BaseSpec": "fastcls.specs",
    "CutSpec": "fastcls.specs",
    "ExtractConfig": "fastcls.specs",
    "FinetuneSpec": "fastcls.specs",
    "HeadSpec": "fastcls.specs",
    "TrainConfig": "fastcls.specs",
    "PixelRule": "fastcls.specs",
    "ViewSpec": "fastcls.specs",
    "FastclsError": "fastcls.errors",
    "Dataset": "fastcls.data.dataset",
    "Sample": "fastcls.data.dataset",
    "SplitSpec": "fastcls.specs",
    "split": "fastcls.data.splitter",
    "write_split": "fastcls.data.split_writer",
    "Cache": "fastcls.cache.store",
    "load_base": "fastcls.bases.loader",
    "cut": "fastcls.cutter",
    "extract": "fastcls.extraction.extractor",
    "extract_several": "fastcls.extraction.extractor",
    "train_head": "fastcls.training.head_trainer",
    "finetune": "fastcls.training.finetuner",
    "stitch": "fastcls.inference.stitcher",
    "Classifier": "fastcls.inference.classifier",
    "evaluate": "fastcls.evaluation.one_label",
    "run": "fastcls.pipeline",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastcls' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

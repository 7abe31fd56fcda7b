"""fastcls: a folder of images in, a classifier out; each image goes through the frozen trunk once, ever."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

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
    "train_head": "fastcls.training.trainer",
    "finetune": "fastcls.training.finetuner",
    "stitch": "fastcls.inference.stitcher",
    "Classifier": "fastcls.inference.classifier",
    "evaluate": "fastcls.evaluation.metrics",
    "run": "fastcls.pipeline",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastcls' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

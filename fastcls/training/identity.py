"""The identity of a training: what decides its result, as values to compare."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files, graph
from fastcls.cache.store import Cache
from fastcls.specs import FinetuneSpec, HeadSpec, TrainConfig
from fastcls.training.loop.compile import TrainingData
from fastcls.training.rows.images import Images
from fastcls.training.rows.selection import LabeledRows, Selection


def head_identity(
    cache: Cache,
    chosen: Selection,
    model: Any,
    head: HeadSpec,
    config: TrainConfig,
    prompts: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """The identity of a training of a head: two of equal identity end with the same head.

    Args:
        cache: The bottlenecks.
        chosen: Rows and labels.
        model: The head before the first step; None for one that is fitted at once, or starts from prompts.
        head: What it was made of.
        config: How it is trained.
        prompts: Those of each class.
    """
    code = Path(head.kind.rpartition(":")[0]) if head.is_function else None
    return {
        "training": asdict(config),
        "head": {
            **asdict(head),
            "architecture": graph.architecture_digest(model, trained=True) if model else "",
            "weights": graph.weights_digest(model) if model else "",
            "code": files.file_digest(code) if code and code.is_file() else "",
            "texts": files.json_digest(prompts) if prompts else "",
        },
        "views": asdict(chosen.views),
        "cache": cache.manifest.fingerprint,
        "classes": files.json_digest(chosen.class_names),
        "train_rows": _rows_digest(chosen.train),
        "val_rows": _rows_digest(chosen.val) if chosen.val else "",
    }


def network_identity(
    trainee: Any, images: Images, data: TrainingData, spec: FinetuneSpec, config: TrainConfig
) -> dict[str, Any]:
    """The identity of a training of a network: two of equal identity end with the same network.

    Args:
        trainee: The network before the first step.
        images: The images as pixels.
        data: What it is trained and validated on.
        spec: What of it is trained.
        config: How it is trained.
    """
    val_labels = [] if data.val_labels is None else data.val_labels.tolist()
    return {
        "training": asdict(config),
        "finetuning": asdict(spec),
        "pixels": asdict(images.rule),
        "network": graph.architecture_digest(trainee, trained=True),
        "weights": graph.weights_digest(trainee),
        "classes": files.json_digest(data.class_names),
        "images": files.json_digest([images.digests, data.labels.tolist(), val_labels]),
    }


def _rows_digest(data: LabeledRows) -> str:
    """Hash of some rows in their order, with their labels.

    Shards never change: the names of files, and places in them, tell bottlenecks apart. Shards that were
    added since have no part in it.
    """
    used, shard = np.unique(data.rows.shard, return_inverse=True)
    state = hashlib.blake2b(digest_size=files.DIGEST_BYTES)
    state.update(files.json_digest([data.rows.shards[place].name for place in used]).encode())
    for values in (shard, data.rows.row, data.labels):
        state.update(np.ascontiguousarray(values, np.int64).tobytes())
    return state.hexdigest()

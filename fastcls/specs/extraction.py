"""How an extraction runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.checks import check_choice
from fastcls.specs.option import option
from fastcls.specs.options import described, settle

# {name: {precision: its class, "module:class"}}, the fastest on CPUs first. An engine is one entry.
ENGINES = {
    "openvino": {
        "int8": "fastcls.engines.openvino:Int8Engine",
        "bfloat16": "fastcls.engines.openvino:Bfloat16Engine",
        "float16": "fastcls.engines.openvino:Float16Engine",
        "float32": "fastcls.engines.openvino:OpenVINOEngine",
    },
    "tensorflow": {
        "bfloat16": "fastcls.engines.tensorflow:Bfloat16Engine",
        "float16": "fastcls.engines.tensorflow:Float16Engine",
        "float32": "fastcls.engines.tensorflow:TensorFlowEngine",
    },
}


@dataclass(frozen=True)
class ExecutorKind:
    """A kind of executor.

    Attributes:
        path: Its class, "module:class" (see `fastcls.extraction.executors.Executor`).
        has_workers: Whether it starts processes, so that their number has an effect.
    """

    path: str
    has_workers: bool = False


# An executor is one entry.
EXECUTORS = {
    "processes": ExecutorKind("fastcls.extraction.executors:ProcessExecutor", has_workers=True),
    "inline": ExecutorKind("fastcls.extraction.executors:InlineExecutor"),
}
MAX_PIXELS = "Skip images with more than this many pixels."
MAX_PIXELS_SHOWN = "as memory allows for each decoding thread"


def _engine(value: Any) -> str:
    if ":" not in str(value):
        check_choice("engine", value, ("auto", *ENGINES))
    return str(value)


@described
@dataclass(frozen=True)
class ExtractConfig:
    """How the extraction runs; nothing here changes a bottleneck beyond float noise."""

    engine: str = option(
        "auto",
        "Engine that runs the trunk; auto: the fastest available. openvino is for CPUs. MODULE:CLASS is a "
        "class of your own (see fastcls.engines.Engine).",
        metavar="|".join(("auto", *ENGINES, "MODULE:CLASS")),
        read=_engine,
    )
    executor: str = option(
        "processes",
        "Where shards are made: in worker processes, whose crashes the extraction survives, or in this "
        "process (inline), which is not protected against crashes.",
        choices=EXECUTORS,
        silences=lambda name: [] if EXECUTORS[name].has_workers else ["workers"],
    )
    workers: int | None = option(
        None,
        "Number of worker processes.",
        low=1,
        shown="one per GPU, or one per core as memory allows",
    )
    batch_size: int | None = option(None, "Images per forward pass.", low=1, shown="8 on CPUs, 64 on GPUs")
    shard_size: int = option(512, "Bottlenecks per shard: the most that a crash can lose.", low=1)
    compress: bool = option(
        False, "Compress the bottlenecks: spatial maps take less space but are slower to read."
    )
    max_pixels: int | None = option(None, MAX_PIXELS, low=1, shown=MAX_PIXELS_SHOWN)
    max_failures: int | None = option(
        None, "Stop when more than this many images cannot be read.", low=0, shown="no limit"
    )

    def __post_init__(self) -> None:
        if self.workers == 0:
            raise OptionError(
                "workers must be 1 or more. Received: 0. Use --executor inline (executor='inline') to "
                "extract in this process"
            )
        settle(self)

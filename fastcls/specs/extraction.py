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
        path: Its class, "module:class" (see `fastcls.extraction.executors.base.Executor`).
        has_workers: Whether it starts processes, so that their number has an effect.
        has_named_tasks: Whether a task may be run in several places, so that it has a name (`named_tasks`).
        shares_caches: Whether several such commands fill a cache together.
        is_cluster: Whether its workers are on other machines, which it finds out at an `address`.
    """

    path: str
    has_workers: bool = False
    has_named_tasks: bool = False
    shares_caches: bool = False
    is_cluster: bool = False

    @property
    def silences(self) -> list[str]:
        """The options that have no effect with it."""
        return ["workers"] * (not self.has_workers) + ["address"] * (not self.is_cluster)


# An executor is one entry.
EXECUTORS = {
    "processes": ExecutorKind("fastcls.extraction.executors.processes:ProcessExecutor", has_workers=True),
    "inline": ExecutorKind("fastcls.extraction.executors.inline:InlineExecutor"),
    "shared": ExecutorKind(
        "fastcls.extraction.executors.shared:SharedExecutor",
        has_workers=True,
        has_named_tasks=True,
        shares_caches=True,
    ),
    "ray": ExecutorKind(
        "fastcls.extraction.executors.ray_cluster:RayExecutor",
        has_workers=True,
        has_named_tasks=True,
        is_cluster=True,
    ),
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
        "Where shards are made: in worker processes, whose crashes the extraction survives; in this process "
        "(inline), which is not protected against crashes; in worker processes on each machine that sees the "
        "same --cache and runs the same command (shared); or by actors of a Ray cluster (ray).",
        choices=EXECUTORS,
        silences=lambda name: EXECUTORS[name].silences,
    )
    workers: int | None = option(
        None,
        "Number of worker processes on each machine; with --executor ray, of actors in the whole cluster.",
        low=1,
        high=10_000,
        shown="one per two cores, or on a GPU one per four, as memory allows",
    )
    address: str = option(
        "auto", "Where the Ray cluster is, HOST:PORT; auto: the one that this machine belongs to."
    )
    batch_size: int | None = option(
        None, "Images per forward pass.", low=1, high=10_000, shown="8 on CPUs, 64 on GPUs"
    )
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

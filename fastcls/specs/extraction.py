"""How an extraction runs."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.errors import OptionError
from fastcls.specs.checks import check_at_least, check_choice

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
# {name: its class, "module:class"}. An executor is one entry.
EXECUTORS = {
    "processes": "fastcls.extraction.executors:ProcessExecutor",
    "inline": "fastcls.extraction.executors:InlineExecutor",
}


@dataclass(frozen=True)
class ExtractConfig:
    """How the extraction runs; nothing here changes a bottleneck beyond float noise.

    Attributes:
        engine: What runs the trunk: "tensorflow", "openvino" (CPUs; an extra), "auto" for the fastest of
            those that this machine has, or a class of your own ("module:class"; see
            `fastcls.engines.Engine`).
        executor: Who runs the shard tasks: "processes" (worker processes, which survive a crash), or
            "inline" (this process, without protection against crashes).
        workers: Worker processes; None for one per GPU, or on CPUs one per core as far as the memory
            allows.
        batch_size: Images per forward pass; None for 8 on CPUs and 64 on GPUs.
        shard_size: Bottlenecks per shard task: what a crash or a kill can cost at most.
        compress: Deflate the bottlenecks in their shards: a spatial map after a ReLU shrinks by half, and
            is slower to read.
        max_pixels: Images of more pixels, when they are decoded, are failures; None for as many as the memory
            allows each decoding thread.
        max_failures: Stop when more images than this cannot be read; None for no limit.
    """

    engine: str = "auto"
    executor: str = "processes"
    workers: int | None = None
    batch_size: int | None = None
    shard_size: int = 512
    compress: bool = False
    max_pixels: int | None = None
    max_failures: int | None = None

    def __post_init__(self) -> None:
        if ":" not in self.engine:
            check_choice("engine", self.engine, ("auto", *ENGINES))
        check_choice("executor", self.executor, tuple(EXECUTORS))
        if self.workers == 0:
            raise OptionError(
                "workers must be 1 or more. Received: 0. Use executor='inline' to extract in this process"
            )
        check_at_least("workers", self.workers, 1)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("shard_size", self.shard_size, 1)
        check_at_least("max_pixels", self.max_pixels, 1)
        check_at_least("max_failures", self.max_failures, 0)

"""How an extraction runs."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.specs.checks import check_at_least, check_choice

ENGINES = ("auto", "tensorflow", "openvino")


@dataclass(frozen=True)
class ExtractConfig:
    """How the extraction runs; nothing here changes a bottleneck beyond float noise.

    Attributes:
        engine: What runs the trunk: "tensorflow", "openvino" (CPUs; an extra), or "auto" for the fastest
            of those that this machine has.
        workers: Worker processes; None for one per GPU, or on CPUs one per core as far as the memory
            allows; 0 runs in this process, without protection against crashes.
        batch_size: Images per forward pass; None for 8 on CPUs and 64 on GPUs.
        shard_size: Bottlenecks per shard task: what a crash or a kill can cost at most.
        compress: Deflate the bottlenecks in their shards: a spatial map behind a ReLU shrinks by half, and
            is slower to read.
        max_pixels: Images of more pixels, when they are decoded, are failures; None for as many as the memory
            allows each decoding thread.
        max_failures: Stop when more images than this cannot be read; None for no limit.
    """

    engine: str = "auto"
    workers: int | None = None
    batch_size: int | None = None
    shard_size: int = 512
    compress: bool = False
    max_pixels: int | None = None
    max_failures: int | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        check_at_least("workers", self.workers, 0)
        check_at_least("batch_size", self.batch_size, 1)
        check_at_least("shard_size", self.shard_size, 1)
        check_at_least("max_pixels", self.max_pixels, 1)
        check_at_least("max_failures", self.max_failures, 0)

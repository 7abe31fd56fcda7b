"""How an extraction runs."""

from __future__ import annotations

from dataclasses import dataclass

from fastcls.specs.options import described, option, settle

ENGINES = ("auto", "tensorflow", "openvino")
MAX_PIXELS = "Skip images with more pixels than this."
MAX_PIXELS_SHOWN = "what the memory allows each decoding thread"


@described
@dataclass(frozen=True)
class ExtractConfig:
    """How the extraction runs; nothing here changes a bottleneck beyond float noise."""

    engine: str = option(
        "auto",
        "What runs the trunk; auto: the fastest there is. openvino, for CPUs, needs the extra of that name.",
        choices=ENGINES,
    )
    workers: int | None = option(
        None,
        "Worker processes.",
        low=0,
        shown="one per GPU, or per core as far as the memory allows",
    )
    batch_size: int | None = option(None, "Images per forward pass.", low=1, shown="8 on CPUs, 64 on GPUs")
    shard_size: int = option(512, "Bottlenecks per shard: what a crash can cost at most.", low=1)
    compress: bool = option(
        False, "Deflate the bottlenecks: spatial maps take less room, and longer to read."
    )
    max_pixels: int | None = option(None, MAX_PIXELS, low=1, shown=MAX_PIXELS_SHOWN)
    max_failures: int | None = option(
        None, "Stop when more images than this cannot be read.", low=0, shown="no limit"
    )

    def __post_init__(self) -> None:
        settle(self)

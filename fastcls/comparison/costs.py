"""What a trunk costs: multiply-adds and parameters of its graph, and images per second as measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import fastcls
from fastcls import files, graph, home
from fastcls.cache import checked_files
from fastcls.cache.store import Cache
from fastcls.extraction.tracker import Extraction
from fastcls.records import Count, Rule

_COST, _RATE = "cost.json", "rate.json"
_ImagesPerSecond = Annotated[float, Rule("a number above 0", lambda number: number > 0)]
_LEAST_IMAGES = 100  # fewer are over before a rate means something


@dataclass(frozen=True)
class Cost:
    """What a graph tells of a model.

    Attributes:
        multiply_adds: Of its convolutions and dense layers, for one image; each is two FLOPs.
        parameters: Those that are used, each once.
    """

    multiply_adds: int
    parameters: int

    @classmethod
    def of_model(cls, model: Any) -> Cost:
        """That of a flat functional Keras model."""
        weights: dict[int, int] = {}
        nodes = graph.nodes(model)
        for node in nodes:
            weights |= graph.parameters(node)
        return cls(sum(map(graph.multiply_adds, nodes)), sum(weights.values()))

    @classmethod
    def of_trunk(cls, cache: Cache) -> Cost:
        """That of the trunk of a cache, counted once per machine.

        Raises:
            CacheError: The trunk is damaged.
        """

        def count(folder: Path) -> None:
            cost = cls.of_model(checked_files.load_model(cache.trunk_path))
            files.write_json(folder / _COST, [cost.multiply_adds, cost.parameters])

        key = files.json_digest([cache.manifest.architecture, fastcls.__version__])
        return cls(*home.read(home.kept("cost", key, count), _COST, tuple[Count, Count]))


@dataclass(frozen=True)
class Rate:
    """How fast images became bottlenecks.

    Attributes:
        images_per_second: From the file to the cache; with several cuts, into all of their caches.
        is_of_now: Whether it was measured just now; else when this machine filled the cache.
    """

    images_per_second: float
    is_of_now: bool


def rate_of(cache: Cache, done: Extraction) -> Rate | None:
    """How fast an extraction was, or the one that filled the cache on this machine before.

    Args:
        cache: The cache.
        done: The figures of the extraction.

    Returns:
        None where neither is known.
    """
    key = cache.manifest.fingerprint
    if done.forwarded and done.forward_seconds:
        rate = done.rows / done.forward_seconds
        if done.forwarded >= _LEAST_IMAGES and home.find("rate", key) is None:
            home.kept("rate", key, lambda folder: files.write_json(folder / _RATE, rate))
        return Rate(rate, is_of_now=True)
    earlier = home.find("rate", key)
    return Rate(home.read(earlier, _RATE, _ImagesPerSecond), is_of_now=False) if earlier else None

"""CACHE/manifest.json: what the bottlenecks of a cache are."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

from fastcls import files
from fastcls.errors import CacheError, shown
from fastcls.records import FILLED, REQUIRED, Amount, Count, Filled, Positive, Share, made, one_of
from fastcls.specs import DTYPES, POOLS, PRECISIONS, PixelRule

MANIFEST = "manifest.json"
VERSION = 3


class _Measured(TypedDict):
    images: Count
    median_error: Amount
    largest_error: Amount
    median_cosine: float
    smallest_cosine: float


class Figures(_Measured, total=False):
    """How near an engine comes to Keras in float32: see `fastcls.extraction.fidelity.Fidelity`."""

    neighbors: Share | None
    are_yours: bool


@dataclass(frozen=True)
class Manifest:
    """What the bottlenecks of a cache are.

    Attributes:
        fingerprint: Hash of all that decides a bottleneck's value; it names the cache folder.
        base: Name of the base.
        weights: Where its weights came from: "imagenet", "random", "own", or the name of a file.
        layer: The cut.
        pool: What became of a spatial cut; "none" where there was nothing to pool.
        normalize: Kind of normalization inside the trunk.
        size: (height, width) of the decoded image in pixels.
        decode: Name of the rule by which a file is decoded.
        resize: Name of the rule by which that comes to the size.
        dtype: Storage type.
        precision: Type in which the trunk computes.
        shape: Shape of one bottleneck.
        policies: Kinds of dtype policies that the trunk's layers have, sorted.
        float32_layers: Layers that compute in float32 whatever the precision.
        architecture: Digest of the trunk's graph.
        weights_digest: Digest of the trunk's weights.
        tail_digest: Digest of the graph and weights of the tail beside the trunk; "" without one.
        cuts: Digests of the cuts that led here, as they were asked for: they are recognized without the base.
        fidelity: By engine: how near its bottlenecks of some images come to those of Keras in float32.
        versions: Packages that made the cache.
        version: Version of the cache's layout.
    """

    fingerprint: Filled
    base: Filled
    weights: Filled
    layer: Filled
    pool: Annotated[str, one_of(POOLS)]
    normalize: Filled
    size: tuple[Positive, Positive]
    decode: Filled
    resize: Filled
    dtype: Annotated[str, one_of(DTYPES)]
    precision: Annotated[str, one_of(PRECISIONS)]
    shape: Annotated[tuple[Positive, ...], FILLED]
    architecture: str
    weights_digest: str
    policies: tuple[str, ...] = ()
    float32_layers: tuple[str, ...] = ()
    tail_digest: str = ""
    cuts: tuple[str, ...] = ()
    fidelity: dict[str, Figures] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    version: int = field(default=VERSION, metadata=REQUIRED)

    @classmethod
    def read(cls, values: Any) -> Manifest:
        """From decoded JSON; raises ValueError where something is missing, unknown or of another kind."""
        return made(cls, values)

    @property
    def pixels(self) -> PixelRule:
        """How pixels are made for the trunk."""
        return PixelRule(self.size, self.decode, self.resize)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a cache.

    Raises:
        CacheError: There is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise CacheError(f"{folder} is not a bottleneck cache: it has no {MANIFEST}")
    _require_version(path)
    try:
        return Manifest.read(files.read_checked_json(path))
    except ValueError as error:
        raise CacheError(
            f"{path} is damaged: {error}. Run the same `fastcls extract` again: it recreates the file, and "
            "no bottleneck is lost"
        ) from error


def _require_version(path: Path) -> None:
    """Refuse a manifest of another version; one of the first has no checksum."""
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
        values = files.read_json(path)
        version = values["version"]
        if type(version) is int and version == VERSION:
            return
        makers = values.get("versions")
        maker = makers.get("fastcls") if isinstance(makers, dict) else None
        raise CacheError(
            f"Cache {path.parent} has version {shown(version)}, this fastcls reads version {VERSION}. Give "
            f"another cache, or use the fastcls that made it{f' ({maker})' if maker else ''}"
        )

"""What decides a bottleneck's value, and how a cut is recognized without building its base."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fastcls
from fastcls import files
from fastcls.backend import reproducible_build
from fastcls.bases.hub import is_preset
from fastcls.bases.loader import is_function, load_base
from fastcls.bases.registry import find_architecture
from fastcls.cache.manifest import VERSION, Manifest
from fastcls.cache.store import Cache
from fastcls.cutter import Cut, bottleneck_model, cut
from fastcls.data.decoder import pixel_rule
from fastcls.errors import OptionError
from fastcls.specs import NAMED_WEIGHTS, BaseSpec, CutSpec

# What decides a bottleneck's value, as the fingerprint has it.
DECIDING = (
    *("size", "decode", "resize", "pool", "dtype", "precision", "policies", "float32_layers"),
    *("architecture", "weights_digest", "version"),
)


def describe(made: Cut, model: Any, tail: Any, weights: str, precision: str) -> Manifest:
    """Describe the cache of a cut in one precision.

    Args:
        made: The cut.
        model: What makes its bottlenecks.
        tail: What follows them in the base, if anything.
        weights: Where the weights came from.
        precision: Type in which the trunk computes.
    """
    from fastcls import graph

    rule = pixel_rule(made.base.size, full_decode=made.full_decode, resize=made.resize, crop=made.base.crop)
    manifest = Manifest(
        fingerprint="",
        base=made.base.name,
        weights=weights,
        layer=made.layer,
        pool=made.pooling,
        normalize=made.base.normalize,
        **asdict(rule),
        dtype=made.dtype,
        precision=precision,
        shape=tuple(model.outputs[0].shape[1:]),
        policies=graph.policies(model),
        architecture=graph.architecture_digest(model),
        weights_digest=graph.weights_digest(model),
        # Two bases may share a trunk and go on in two ways.
        tail_digest=_tail_digest(tail) if tail else "",
        versions={"fastcls": fastcls.__version__}
        | {name: importlib.metadata.version(name) for name in ("keras", "tensorflow")},
    )
    return replace(manifest, fingerprint=fingerprint(manifest))


def fingerprint(manifest: Manifest) -> str:
    """Hash of all that decides a bottleneck's value."""
    deciding = {name: getattr(manifest, name) for name in DECIDING}
    tail = {"tail": manifest.tail_digest} if manifest.tail_digest else {}
    return files.json_digest(deciding | tail)


def require_same_base(cache: Cache) -> None:
    """Refuse a base that is read again, but is not the one any more that a cache of its own cut was made of.

    Raises:
        OptionError: It has other weights, or cannot be loaded.
    """
    from fastcls import graph

    known = cache.manifest
    with reproducible_build():
        base = load_base(BaseSpec(known.base, size=known.size, normalize=known.normalize))
        found = graph.weights_digest(bottleneck_model(cut(base)))
    if found != known.weights_digest:
        raise OptionError(
            f"{known.base} is not the model any more that {cache.folder} was made of: the part that sees "
            "images has other weights. Put that model back, or extract again"
        )


def cut_token(spec: CutSpec) -> str | None:
    """Digest of a cut as it was asked for; None when only running the user's code, or keras_hub's, tells."""
    base = spec.base
    if is_function(base.name) or is_preset(base.name):
        return None
    named = find_architecture(base.name)
    asked = asdict(spec)
    asked["base"]["name"] = named.name if named else _path_digest(Path(base.name))
    if base.weights not in (None, *NAMED_WEIGHTS):
        asked["base"]["weights"] = _path_digest(Path(str(base.weights)))
    # The size is in the cut, or the base's own.
    rule = pixel_rule((0, 0), full_decode=spec.full_decode, resize=spec.resize)
    made_by = [fastcls.__version__, importlib.metadata.version("keras"), asdict(rule), VERSION]
    return files.json_digest([asked, made_by])


def _path_digest(path: Path) -> str:
    if path.is_file():
        return files.file_digest(path)
    inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return files.json_digest([[str(entry.relative_to(path)), files.file_digest(entry)] for entry in inside])


def _tail_digest(tail: Any) -> str:
    from fastcls import graph

    return files.json_digest([graph.architecture_digest(tail, trained=True), graph.weights_digest(tail)])

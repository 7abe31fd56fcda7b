"""Manifests of caches that no base has made."""

from fastcls.cache.manifest import Manifest


def some_manifest(fingerprint: str, shape: tuple[int, ...], **given: object) -> Manifest:
    """The manifest of a cache of float32 rows, with some of its values."""
    values = {
        **dict.fromkeys(("base", "weights", "layer", "pool", "normalize", "decode", "resize"), "none"),
        **{
            "size": (8, 8),
            "dtype": "float32",
            "precision": "float32",
            "architecture": "",
            "weights_digest": "",
        },
    }
    return Manifest(**{**values, "fingerprint": fingerprint, "shape": shape, **given})  # type: ignore[arg-type]

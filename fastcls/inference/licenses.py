"""The license of the weights that a classifier was made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastcls.bases.registry import find_architecture

UNKNOWN = "unknown"


def weights_license(provenance: Mapping[str, Any]) -> str:
    """The license that the publisher of a base's weights states: of those that Keras downloads.

    Args:
        provenance: What made a classifier; see `Classifier`.

    Returns:
        Such as "Apache-2.0"; "none" of random weights, and "unknown" of a file of the user.

    >>> weights_license({"cache": {"base": "resnet50", "weights": "imagenet"}})
    'MIT'
    """
    start = provenance.get("cache") or provenance.get("start")
    if not isinstance(start, dict):
        return UNKNOWN
    if "weights_license" in start:  # of a classifier that was trained further
        return str(start["weights_license"])
    name, weights = start.get("base") or start.get("name"), start.get("weights")
    if weights == "random":
        return "none"
    architecture = find_architecture(str(name)) if name else None
    if architecture and (weights == "imagenet" or (weights is None and architecture.is_keras)):
        return architecture.license or UNKNOWN
    return weights_license(start) if "cache" in start or "start" in start else UNKNOWN

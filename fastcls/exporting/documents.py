"""What travels with an export, and the digests and versions that export.json beside it says.

Inside of the file, or beside a GraphDef, is what `fastcls.json` of the classifier says, and as "export" the
format, the precision, and the digest of the classifier file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from typing import Any

import fastcls
from fastcls import files
from fastcls.inference.classifier import Classifier
from fastcls.inference.licenses import weights_license
from fastcls.specs.exporting import ExportSpec

MEMBER = "export"
_PACKAGES = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "openvino", "nncf", "ai-edge-litert")


def document(classifier: Classifier, spec: ExportSpec, digests: Mapping[str, str]) -> dict[str, Any]:
    """What travels with an export.

    Args:
        classifier: What is exported.
        spec: To what.
        digests: What `digests` returned.
    """
    export = {"format": spec.format, "precision": spec.precision, "model": digests["model"]}
    license = weights_license(classifier.provenance)  # of a run that does not tell
    return {"weights_license": license, **classifier.described, MEMBER: export}


def digests(classifier: Classifier) -> dict[str, str]:
    """Of what an export depends on: by others it is stale.

    Args:
        classifier: One of a file.
    """
    assert classifier.source
    return {
        "model": files.file_digest(classifier.source),
        "thresholds": files.json_digest(classifier.thresholds),
        "pixels": files.json_digest(asdict(classifier.pixels)),
    }


def versions() -> dict[str, str]:
    """Of fastcls and of the packages that had a part in an export."""
    found = {"fastcls": fastcls.__version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found

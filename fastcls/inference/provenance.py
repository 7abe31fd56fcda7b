"""What a classifier keeps of how it was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import fastcls
from fastcls.inference.licenses import weights_license

if TYPE_CHECKING:
    from fastcls.cache.manifest import Manifest
    from fastcls.training.head_trainer import TrainedHead


def provenance_of(manifest: Manifest, trained: TrainedHead) -> dict[str, Any]:
    """What made a classifier of a cache and a head: base, cut, fingerprint, versions, figures."""
    known = asdict(manifest)
    del known["cuts"]
    return {
        "fastcls": fastcls.__version__,
        "cache": known,
        "weights_license": weights_license({"cache": known}),
        "head": asdict(trained.spec),
        "training": asdict(trained.config),
        "views": asdict(trained.views),
        "figures": trained.best,
        "train_count": trained.train_count,
        "val_count": trained.val_count,
        "familiarity": trained.familiarity.told if trained.familiarity else None,
    }

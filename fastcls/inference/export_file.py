"""An export in the place of a Keras model: its runtime forwards images, and that is all that it does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.errors import OptionError
from fastcls.exporting.runtimes import Export, open_export, parts
from fastcls.runs import CLASSIFIER, Run, is_complete

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportFile:
    """An opened export.

    Attributes:
        export: What runs it.
    """

    export: Export

    @classmethod
    def open(cls, path: Path) -> ExportFile:
        """Open an export; see `open_export`."""
        return cls(open_export(path))

    @property
    def path(self) -> Path:
        """Its file; the folder of a SavedModel."""
        return self.export.path

    @cached_property
    def digest(self) -> str:
        """Of the bytes of its files."""
        named = {file.relative_to(self.path.parent).as_posix(): file for file in parts(self.path)}
        return files.json_digest({name: files.file_digest(file) for name, file in named.items()})

    @cached_property
    def run(self) -> Run | None:
        """The run that it was made of, where it lies in its folder; None elsewhere."""
        run = self._run_around
        return run if run and self._model in run.record["files"].values() else None

    def warn_if_stale(self) -> None:
        """Say so if the run in whose folder it lies has another classifier than the one it was made of."""
        if self._run_around and not self.run:
            logger.warning(
                "%s is stale: it was made of another %s than the one in %s. Export again",
                *(self.path, CLASSIFIER, self._run_around.folder),
            )

    def load_model(self, size: tuple[int, int]) -> Any:
        """Raise OptionError: there is no Keras model."""
        place = f" ({self.run.folder / CLASSIFIER})" if self.run else ""
        raise OptionError(
            f"{self.path} is an export, which has no Keras model: it predicts, and cannot be explained, "
            f"trained, calibrated or exported. Give the run that it was made of{place}"
        )

    @cached_property
    def _run_around(self) -> Run | None:
        """The run in whose folder it lies: RUN/exports/NAME/FILE."""
        for folder in list(self.path.absolute().parents)[:3]:
            if is_complete(folder):
                return Run.open(folder)
        return None

    @property
    def _model(self) -> str:
        """The digest of the classifier file that it was made of."""
        return str(self.export.described.get("export", {}).get("model"))


@dataclass(frozen=True)
class ExportForwarder:
    """Runs an export where a `Forwarder` would run a model.

    Attributes:
        export: What runs it.
    """

    export: Export

    def choose(self, count: int | None) -> Callable[[np.ndarray], np.ndarray]:
        """What runs it, however many images there are."""
        return self.export.run

    def keep(self) -> None:
        """There is nothing to convert."""

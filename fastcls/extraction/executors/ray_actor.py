"""What an actor of a Ray cluster does; it imports what runs a trunk when it has been checked."""

from __future__ import annotations

import pickle
import socket
import time
from pathlib import Path
from typing import Any

import fastcls
from fastcls.errors import FastclsError
from fastcls.extraction.worker import Worker, WorkerSpec
from fastcls.storage import is_url


class Actor:
    """Runs shard tasks on a node of the cluster, with an engine that is loaded once.

    What it gets is packed: to unpack what another version of fastcls has packed may fail.

    Args:
        version: Of fastcls, of who starts it.
        packed: Its `WorkerSpec`.
        root: Folder of the images.
    """

    def __init__(self, version: str, packed: bytes, root: str) -> None:
        self._version, self._packed, self._root = version, packed, root
        self._worker: Worker | None = None

    def check(self) -> tuple[str, str]:
        """The name of the node, and what keeps it from running tasks; "" for nothing."""
        host = socket.gethostname()
        if self._version != fastcls.__version__:
            return host, (
                f"it has fastcls {fastcls.__version__}, where the extraction was started there is "
                f"{self._version}. Install one version on all nodes"
            )
        spec: WorkerSpec = pickle.loads(self._packed)  # of its own version
        needed = {
            **{str(folder): "the cache" for folder in spec.caches},
            str(spec.trunk): "the trunk with the weights",
            self._root: "the images",
        }
        for path, what in needed.items():
            if not is_url(path) and not Path(path).exists():
                return host, f"{path} ({what}) is not there. All nodes must see it at the same path"
        return host, ""

    def run(self, packed: bytes) -> tuple[str, float, Any]:
        """Run a task.

        Returns:
            The name of the node, the seconds that it took, and the results, or the error.
        """
        started = time.monotonic()
        outcome: Any
        try:
            if not self._worker:
                self._worker = Worker(pickle.loads(self._packed), lambda images: None)
            outcome = self._worker.run(pickle.loads(packed))
        except (FastclsError, OSError) as error:
            outcome = error
        return socket.gethostname(), time.monotonic() - started, outcome

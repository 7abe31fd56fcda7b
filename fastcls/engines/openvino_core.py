"""OpenVINO, and the one core of this process."""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType
from typing import Any

from fastcls.optional import require


def import_openvino() -> ModuleType:
    """Import OpenVINO, which then reports its use to nobody.

    Raises:
        MissingExtraError: It is not installed.
    """
    # Else it reports its use to its makers, and so does NNCF. They do without this package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return require("openvino", purpose="The engine openvino")


def core() -> Any:
    """The core, which lives as long as the process.

    Each core gives the thread a stack for signal handlers (OpenVINO 2026.4), and takes it away at its end. If
    cores end in the order in which they were made, the thread is left with a stack that is gone: the next
    signal, such as Ctrl-C, is then a segmentation fault.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    import_openvino()
    return _core()


@cache
def _core() -> Any:
    return import_openvino().Core()

"""Optional packages: imported where they are used, named with their extra when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from fastcls.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: Name to import.
        extra: The extra of fastcls that installs it.
        purpose: What it is needed for, as the start of the error message.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs the package {module!r}, which cannot be imported ({error}). "
            f"Install it with: pip install 'fastcls[{extra}]'"
        ) from error

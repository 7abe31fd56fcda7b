"""What is imported only where it is used: optional packages, and the entries of tables."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fastcls.errors import MissingExtraError, OptionError

if TYPE_CHECKING:
    import pandas


def require(module: str, *, purpose: str, extra: str = "") -> ModuleType:
    """Import an optional module.

    Args:
        module: Name to import. The package to install is named like the first part of it.
        purpose: What it is needed for, as the start of the error message.
        extra: Extra of fastcls that has it among others; "" for a package that is installed alone.

    Raises:
        MissingExtraError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = f"'fastcls[{extra}]'" if extra else module.partition(".")[0].replace("_", "-")
        raise MissingExtraError(
            f"{purpose} needs the package {module!r}, which cannot be imported ({error}). "
            f"Install it with: pip install {package}"
        ) from error


def resolve(path: str) -> Any:
    """Import what a "module:name" names.

    Raises:
        OptionError: It cannot be imported, or is not there.

    >>> resolve("math:sqrt")(9)
    3.0
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"{path!r} cannot be imported: {error}. Expected: module:name") from error


def frame(rows: Iterable[Sequence[Any]], columns: Sequence[str]) -> pandas.DataFrame:
    """A table as a pandas DataFrame.

    Args:
        rows: The value of each column.
        columns: Their names.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    frames = require("pandas", purpose="to_frame()")
    made: pandas.DataFrame = frames.DataFrame(list(rows), columns=columns)
    return made

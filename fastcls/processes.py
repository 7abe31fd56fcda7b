"""Processes that run a part of fastcls: a child imports what its parent would, and nothing else.

They are not started by `-m` or by multiprocessing's start methods, which would run the parent's main module
again, nor from a file in the working directory that is called like a module.
"""

from __future__ import annotations

import os
import sys

# Without "", the working directory: Python 3.10 does not know PYTHONSAFEPATH.
_MAIN = """
import sys
sys.path[:] = filter(None, sys.path)
from {} import main
main()
"""


def command(module: str, *arguments: str) -> list[str]:
    """The command of a process that calls `main` of a module of fastcls.

    Args:
        module: Its full name.
        arguments: What `main` finds in `sys.argv[1:]`.
    """
    return [sys.executable, "-c", _MAIN.format(module), *arguments]


def environment() -> dict[str, str]:
    """The environment of such a process: that of this one, and where it finds modules."""
    search = os.pathsep.join(path or os.curdir for path in sys.path)
    return {**os.environ, "PYTHONPATH": search, "PYTHONSAFEPATH": "1"}

"""Converters print a lot, in Python and in C++: it is kept back, unless details are asked for."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

_DESCRIPTORS = (1, 2)


@contextlib.contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep back what is printed and logged inside.

    Args:
        logger: Where it shows details, nothing is kept back.
    """
    if logger.isEnabledFor(logging.INFO):
        yield
        return
    known = logging.root.manager.disable
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(_descriptors_elsewhere())
        logging.disable(logging.WARNING)
        stack.callback(logging.disable, known)
        yield


@contextlib.contextmanager
def _descriptors_elsewhere() -> Iterator[None]:
    """What code in C++ prints goes into a file that nobody reads."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream:
            stream.flush()
    own = [os.dup(each) for each in _DESCRIPTORS]
    with tempfile.TemporaryFile() as kept:
        for each in _DESCRIPTORS:
            os.dup2(kept.fileno(), each)
        try:
            yield
        finally:
            for copy, each in zip(own, _DESCRIPTORS, strict=True):
                os.dup2(copy, each)
                os.close(copy)

"""What the command line shows of the log: warnings, and what no bar shows of a training or of machines."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from fastcls.cli.options import show_progress
from fastcls.errors import spoken

THROUGHPUT = "fastcls.extraction.executors.throughput"
TRAINING = "fastcls.training.loop.progress"


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = spoken(super().format(record))
        return text if record.levelno == logging.INFO else f"{record.levelname}: {text}"


def configure_logging() -> None:
    """Send warnings to stderr, what each machine has done, and where no terminal shows bars, trainings."""
    sys.stderr = _apart(sys.stderr)
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger(TRAINING).setLevel(logging.WARNING if show_progress() else logging.INFO)
    logging.getLogger(THROUGHPUT).setLevel(logging.INFO)


def hide_training() -> None:
    """Show nothing of trainings that are details of a command."""
    logging.getLogger(TRAINING).setLevel(logging.WARNING)


def _apart(stream: TextIO) -> TextIO:
    """The same stream by another descriptor: it is heard while what code in C++ prints is kept back."""
    try:
        descriptor = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):  # it is closed, or no file
        return stream
    return os.fdopen(descriptor, "w", buffering=1, encoding=stream.encoding, errors="backslashreplace")

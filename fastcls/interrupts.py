"""Ctrl-C and SIGTERM end a command in order: at once, but never inside of a step of a training.

An exception that is raised while TensorFlow calls back into Python comes out as a `SystemError`, or is lost.
Where that can happen, a signal is held until there is a safe point.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

EXIT_CODE = 130
_GOES_ON = "Interrupted. What was saved is kept: run the same command again to go on from it"
_STARTS_OVER = "Interrupted. Nothing is left half-written: run the same command again to start over"
# Commands that keep what they have done.
_RESUMING = {"compare", "extract", "finetune", "run", "split-data", "suggest", "train-head"}


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM at a safe point: nothing is half done.

    Attributes:
        saved: What was saved because of it, in words; "" for nothing.
    """

    saved = ""


def message(arguments: Sequence[str]) -> str:
    """What is said of an interrupted command.

    Args:
        arguments: Of the command line, without the name of the program.
    """
    name = next((each for each in arguments if not each.startswith("-")), "")
    return _GOES_ON if name in _RESUMING else _STARTS_OVER


@dataclass
class _State:
    held: int = 0  # how many blocks hold signals
    is_pending: bool = False
    was_received: bool = False


_state = _State()


def install() -> None:
    """Let Ctrl-C and SIGTERM of this process raise KeyboardInterrupt, as soon as nothing holds them."""
    _state.held, _state.is_pending, _state.was_received = 0, False, False
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, _handle)
    signal.signal(signal.SIGTERM, _handle)


def was_received() -> bool:
    """Whether there was a signal since `install`: an exception that follows may be its doing."""
    return _state.was_received


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Inside, a signal waits for `let_through` or for the end of the block; a second one does not wait."""
    with _handled():
        _state.held += 1
        try:
            yield
        finally:
            _state.held -= 1
            is_due = _state.is_pending and not _state.held
            _state.is_pending = _state.is_pending and bool(_state.held)
    if is_due:
        raise KeyboardInterrupt


def let_through() -> None:
    """A safe point: raise Stopped if a signal waits."""
    if _state.is_pending:
        _state.is_pending = False
        raise Stopped


@contextlib.contextmanager
def _handled() -> Iterator[None]:
    """Handle Ctrl-C inside, where it would be Python's own affair: in the process of a library's user."""
    is_own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not is_own or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _handle(_: int, __: Any) -> None:
    _state.was_received = True
    if _state.held and not _state.is_pending:
        _state.is_pending = True
        return
    _state.is_pending = False
    raise KeyboardInterrupt

"""The command `fastcls`, and `python -m fastcls`."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys

TYPE_CHECKING = False  # as `typing` has it, whose import takes a moment
if TYPE_CHECKING:
    from typing import Any, NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM)
# Objects between two searches for garbage, 700 by default: modules make half a million that all stay.
_GARBAGE = (100_000, 20, 100)


def main() -> NoReturn:
    """Import the command line and run it; a signal during the import has nothing to put in order."""
    _open_closed_streams()
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # this import takes a moment too
    from fastcls.interrupts import EXIT_CODE, message

    def end(_: int, __: Any) -> NoReturn:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{message(sys.argv[1:])}\n".encode())
        os._exit(EXIT_CODE)

    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    gc.set_threshold(*_GARBAGE)
    from fastcls.cli.main import main as run

    try:
        run()
    except SystemExit as ended:
        if isinstance(ended.code, int):
            _leave(ended.code)
        raise
    finally:
        # All is done, and Python only takes itself apart: no signal changes the exit code now.
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


def _open_closed_streams() -> None:
    """Open standard streams that were closed before: files that are opened later would be taken for them."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, mode))


def _leave(code: int) -> NoReturn:
    """End at once.

    Python would take a model apart object by object, for half a second, and HDF5 that could not write a file
    crashes when it is closed then.
    """
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    if not code:
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # nobody reads on
            pass
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    main()

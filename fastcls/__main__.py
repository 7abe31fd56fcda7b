"""The command `fastcls`, and `python -m fastcls`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from fastcls.interrupts import EXIT_CODE, MESSAGE


def main() -> NoReturn:
    """Import the command line and run it; a signal during the import has nothing to put in order."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from fastcls.cli.main import main as run

    try:
        run()
    finally:
        # All is done, and Python only takes itself apart: no signal changes the exit code now.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _end(_: int, __: Any) -> NoReturn:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_CODE)


if __name__ == "__main__":
    main()

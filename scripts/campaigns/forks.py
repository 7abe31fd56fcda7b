"""Run commands in forks of this process, which has imported everything once: isolated, and quick to start."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# No command on these tiny data needs more; what a hostile file makes of it is to be stopped.
MEMORY_BYTES = 16 << 30
_CRASH = 99
_SHOWN = 8
_OUR_FRAME = re.compile(r"fastcls/[\w/]+\.py")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Exit code; negative for a signal.
        out: What it printed to stdout.
        err: And to stderr.
        seconds: How long it took.
        memory: Most bytes of memory that were resident.
        late: Whether it had to be stopped.
    """

    code: int
    out: str
    err: str
    seconds: float
    memory: int = 0
    late: bool = False

    @property
    def fell(self) -> bool:
        """Whether it ended in a traceback that goes through fastcls."""
        return bool(_OUR_FRAME.search((self.out + self.err).partition("Traceback")[2]))

    @property
    def tail(self) -> str:
        """The last of what it printed, for a report; of a traceback, the lines that go through fastcls."""
        lines = (self.out + self.err).rstrip().splitlines()
        if "Traceback" in self.out + self.err:
            lines = [line for line in lines[:-1] if _OUR_FRAME.search(line)] + lines[-1:]
        return "\n    ".join([f"exit code {self.code}", *(line[:300] for line in lines[-_SHOWN:])])


# Of pyarrow's allocator, which takes care of forks.
_OF_JEMALLOC = "jemalloc_bg_thd"


@functools.cache
def preload() -> None:
    """Import once what the commands import, without starting TensorFlow: a fork has none of its threads.

    Raises:
        RuntimeError: Something has started threads, so that forks could hang.
    """
    with _quiet():  # TensorFlow's notices
        import tensorflow  # noqa: F401, I001
        import keras  # noqa: F401
        import matplotlib.pyplot  # noqa: F401
        import sklearn.linear_model  # noqa: F401

        import fastcls.cli.main
        import fastcls.extraction.extractor
        import fastcls.pipeline  # noqa: F401
    threads = Path("/proc/self/task").glob("*/comm")
    others = [path for path in threads if path.read_text().strip() != _OF_JEMALLOC]
    if len(others) > 1:
        raise RuntimeError("An import has started threads: commands cannot run in forks")


def run_command(arguments: Sequence[str], folder: Path, *, limit_s: float = 120.0) -> Ended:
    """Run `fastcls ARGUMENTS` in a folder, as `python -m fastcls` would."""

    def command() -> None:
        from fastcls.cli.main import main

        sys.argv = ["fastcls", *arguments]
        main()

    return run(command, folder, limit_s=limit_s)


def run(
    function: Callable[[], Any],
    folder: Path,
    *,
    limit_s: float = 120.0,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a function in a fork whose working folder is `folder`."""
    preload()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begun = time.monotonic()
        process = os.fork()
        if process == 0:
            _become(function, folder, out.fileno(), err.fileno(), environment or {})
        status, usage, late = _wait(process, begun + limit_s)
        code = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - begun
        return Ended(code, _read(out), _read(err), seconds, usage.ru_maxrss * 1024, late)


def _become(
    function: Callable[[], Any], folder: Path, out: int, err: int, environment: Mapping[str, str]
) -> None:
    code = _CRASH
    try:
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.environ.update(environment)
        faulthandler.enable(file=2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        function()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _wait(process: int, deadline: float) -> tuple[int, resource.struct_rusage, bool]:
    pause = 0.002
    while time.monotonic() < deadline:
        ended, status, usage = os.wait4(process, os.WNOHANG)
        if ended:
            return status, usage, False
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    os.killpg(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    return status, usage, True


def _read(file: Any) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


@contextlib.contextmanager
def _quiet() -> Any:
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)

"""Ctrl-C and SIGTERM end every command in order, at whatever moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastcls import interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _handlers():
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_held__the_first_waits_for_a_safe_point(number):
    interrupts.install()
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        press(number)
        done.append("step")
        interrupts.let_through()
        done.append("next step")
    assert done == ["step"] and interrupts.was_received()


@pytest.mark.parametrize("number", SIGNALS)
def test_held__the_second_does_not_wait(number):
    interrupts.install()
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        press(number)
        done.append("step")
        press(number)
        done.append("next step")
    assert done == ["step"]


def test_held__the_end_of_the_outermost_block_is_a_safe_point():
    interrupts.install()
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        with interrupts.held():
            press()
        done.append("inner")
    assert done == ["inner"]
    interrupts.let_through()  # nothing waits any more
    with pytest.raises(KeyboardInterrupt):
        press()


def test_held__an_error_inside_forgets_what_waits():
    interrupts.install()
    with pytest.raises(KeyError), interrupts.held():
        press()
        raise KeyError
    interrupts.let_through()


def test_held__in_a_library_users_process_and_not_after_it():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        press()
        done.append("step")
    assert done == ["step"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("module", ["click", "fastcls.cli.predict", "fastcls.errors", "fastcls.interrupts"])
def test_command__interrupted_while_it_is_imported(number, module):
    code = f"""
import os, runpy, sys
class Presser:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Presser())
sys.argv = ["fastcls", "--help"]
runpy.run_module("fastcls", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{interrupts.message(['--help'])}\n")


def test_command__interrupted_in_code_from_a_string_has_an_exit_code(tmp_path):
    (tmp_path / "interrupted.py").write_text(
        "import sys\nfrom fastcls.cli import main\nsys.argv = ['fastcls', 'bases']\n"
        "main.bases.callback = lambda **options: exec('raise KeyboardInterrupt')\nmain.main()"
    )
    command = [sys.executable, "-m", "interrupted"]
    places = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": places})
    assert done.returncode == 130 and interrupts.message(["bases"]).encode() in done.stderr


def test_message__says_what_the_same_command_would_do():
    assert "to go on from it" in interrupts.message(["--verbose", "run", "data", "--out", "test"])
    assert "to start over" in interrupts.message(["test", "run", "data"])


def test_command__is_installed_with_the_entry_that_handles_signals_first():
    assert "fastcls = fastcls.__main__:main" in (Path(__file__).parents[1] / "setup.cfg").read_text()


def test_command__that_fails_keeps_its_exit_code_whatever_crashes_while_the_interpreter_ends():
    code = """
import atexit, os, runpy, sys
atexit.register(os.abort)
sys.argv = ["fastcls", "predict", "nothing", "nothing.jpg"]
runpy.run_module("fastcls", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")


def test_command__whose_parent_closed_its_streams_takes_no_other_file_for_them():
    code = """
import os, sys
from fastcls.__main__ import _open_closed_streams
_open_closed_streams()
print(sys.stdin.read(), flush=True)
print(sys.stdin.read(), file=sys.stderr, flush=True)
os._exit(sum(not os.path.samestat(os.fstat(number), os.stat(os.devnull)) for number in range(3)))
"""
    closed = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(closed).returncode == 0

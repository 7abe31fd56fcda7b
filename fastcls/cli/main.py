"""The command `fastcls`: parse, call, print. Loads neither TensorFlow nor OpenCV by itself."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import NoReturn

import click

import fastcls
from fastcls import interrupts
from fastcls.backend import spare_imports
from fastcls.cli.audit import audit
from fastcls.cli.bases import bases, layers
from fastcls.cli.cache import cache
from fastcls.cli.calibrate import calibrate
from fastcls.cli.compare import compare
from fastcls.cli.curve import curve
from fastcls.cli.doctor import doctor
from fastcls.cli.explain import explain
from fastcls.cli.export import export
from fastcls.cli.extract import extract
from fastcls.cli.finetune import finetune
from fastcls.cli.import_weights import import_weights
from fastcls.cli.logs import configure_logging
from fastcls.cli.predict import predict
from fastcls.cli.promote import promote
from fastcls.cli.report import report
from fastcls.cli.run import run
from fastcls.cli.runs import runs
from fastcls.cli.serve import serve
from fastcls.cli.split_data import split_data
from fastcls.cli.suggest import suggest
from fastcls.cli.test import test
from fastcls.cli.to_csv import to_csv
from fastcls.cli.to_tfrecord import to_tfrecord
from fastcls.cli.train_head import train_head
from fastcls.errors import FastclsError

# The state of the user's machine, not a bug of ours.
_MACHINE_TROUBLE = {
    errno.ENOSPC,
    errno.ENOTEMPTY,  # another process was first
    errno.EEXIST,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.EISDIR,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENOTDIR,
}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(fastcls.__version__, prog_name="fastcls")
@click.option(
    "--verbose",
    is_flag=True,
    help="Also print details, such as the errors measured when a precision was checked.",
)
def cli(*, verbose: bool) -> None:
    """A folder of images in, a classifier out.

    Each image goes through the frozen part of a network only once. Its features (the bottleneck) are
    cached, and classifiers train on them in seconds.
    """
    logging.getLogger("fastcls").setLevel(logging.INFO if verbose else logging.NOTSET)


_COMMANDS = (
    split_data,
    extract,
    train_head,
    finetune,
    test,
    curve,
    predict,
    serve,
    compare,
    explain,
    calibrate,
    export,
    promote,
    suggest,
    run,
    audit,
    report,
    bases,
    layers,
    import_weights,
    to_csv,
    to_tfrecord,
    runs,
    cache,
    doctor,
)
for _command in _COMMANDS:
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command line; exit 1 for what the user can fix, 2 for wrong usage, 130 when interrupted."""
    configure_logging()
    interrupts.install()
    spare_imports()
    try:
        cli(standalone_mode=False)
    except (KeyboardInterrupt, click.Abort) as error:
        _end_interrupted(error)
    except Exception as error:
        if interrupts.was_received():  # out of C code that was interrupted comes any exception
            _end_interrupted(error)
        _end_by(error)
    sys.exit(0)


def _end_interrupted(error: BaseException) -> NoReturn:
    # Where code that was made from a string is interrupted, as a dataclass's is, CPython makes a note of it
    # and ends `python -m` by SIGINT, although the exception was caught. The next such code clears the note.
    exec("")
    saved = getattr(error.__cause__ or error, "saved", "")  # click raises its own Abort from it
    message = interrupts.message(sys.argv[1:])
    _end(message + (f" (saved: {saved})" if saved else ""), interrupts.EXIT_CODE)


def _end_by(error: Exception) -> NoReturn:
    if isinstance(error, click.ClickException):
        error.show()
        sys.exit(error.exit_code)
    if isinstance(error, FastclsError):
        _end(f"Error: {error}", 1)
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if isinstance(error, OSError) and error.errno in _MACHINE_TROUBLE:
        name = error.filename2 or error.filename  # of a copy, the place that it was to have
        place = f" {name}" if name else ""
        _end(f"Error: cannot write or read{place}: {os.strerror(error.errno)}. {_REMEDY}", 1)
    raise error


_REMEDY = (
    "Free some space, fix the permissions or move what is in its place, then run the same command again: "
    "finished work is kept"
)


def _end(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()

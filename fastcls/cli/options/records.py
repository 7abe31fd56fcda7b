"""Options of what a training leaves behind, and of a request that is saved, loaded or only looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastcls.cli.options.common import Command, apply, drop_loaded
from fastcls.errors import OptionError, closest
from fastcls.specs import CheckpointSpec, LogSpec

# What belongs to one call of a command and not to what it is asked for.
_OF_THE_CALL = ("out", "config", "dry_run", "restart")


def record_options(command: Command) -> Command:
    """Checkpoints and logs."""
    return apply(
        command,
        click.option(
            "--checkpoint-every",
            type=click.IntRange(0),
            metavar="EPOCHS",
            help="Keep checkpoints in the run, one every so many epochs; 0: write none at all, so that an "
            "interrupted training begins again. [default: none are kept, and half a minute can be lost]",
        ),
        click.option(
            "--checkpoint-keep",
            type=click.IntRange(1),
            default=CheckpointSpec.checkpoint_keep,
            show_default=True,
            help="How many are kept: the last ones.",
        ),
        click.option(
            "--checkpoint-best-only",
            is_flag=True,
            help="Keep one only if its validation is better than that of all kept before.",
        ),
        click.option(
            "--min-accuracy",
            type=float,
            metavar="SHARE",
            help="Keep an epoch, as a checkpoint or as the result, only if its validation accuracy reaches "
            "this.",
        ),
        click.option(
            "--log-steps",
            type=click.IntRange(0),
            default=LogSpec.log_steps,
            show_default=True,
            metavar="STEPS",
            help="Write loss and learning rate of one step in so many to steps.csv; 0: of none.",
        ),
        click.option(
            "--confusion-every",
            type=click.IntRange(0),
            default=LogSpec.confusion_every,
            show_default=True,
            metavar="EPOCHS",
            help="Draw the confusion of the validation images every so many epochs; 0: never.",
        ),
        click.option(
            "--restart", is_flag=True, help="Give up an interrupted training of this --out, and begin again."
        ),
    )


def request_options(command: Command) -> Command:
    """A saved request as the default of all options, and a look at what would be done."""
    return apply(
        command,
        click.option(
            "--config",
            type=click.Path(),
            is_eager=True,
            callback=_load_config,
            metavar="RUN/run.json",
            help="Take all options from a run of this command; what is typed counts more.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Show the model and what would be done; do and write nothing."
        ),
    )


def read_records(values: dict[str, Any]) -> tuple[CheckpointSpec, LogSpec]:
    """Take the options of checkpoints and logs out of a command's values."""
    if not values["checkpoint_every"]:
        drop_loaded(values, "checkpoint_every", {"checkpoint_keep", "checkpoint_best_only"})
    names = ("checkpoint_every", "checkpoint_keep", "checkpoint_best_only")
    kept = {name: values.pop(name) for name in names}
    logs = LogSpec(values.pop("log_steps"), values.pop("confusion_every"))
    return CheckpointSpec(**kept, min_accuracy=values.pop("min_accuracy")), logs


def read_request() -> dict[str, Any]:
    """The running command and its options, typed or not, as `--config` takes them from run.json."""
    context = click.get_current_context()
    values = {name: context.params[name] for name in _saved(context.command)}
    options = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return {"command": context.command.name, "options": options}


def _saved(command: click.Command) -> list[str]:
    return [
        str(parameter.name)
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name not in _OF_THE_CALL
    ]


def _load_config(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    path = Path(value) / "run.json" if Path(value).is_dir() else Path(value)
    command, options = _read_request(path)
    if command != context.command.name:
        raise OptionError(f"{path} is of `fastcls {command}`. Name a run of `fastcls {context.command.name}`")
    known = _saved(context.command)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise OptionError(
            f"{path} has options that `fastcls {command}` does not know: {', '.join(unknown)}. The closest "
            f"to {unknown[0]} are {closest(unknown[0], known)}"
        )
    parameters = {str(parameter.name): parameter for parameter in context.command.params}
    loaded = {
        name: _as_typed(value, parameters[name]) for name, value in options.items() if value is not None
    }
    context.default_map = {**(context.default_map or {}), **loaded}


def _read_request(path: Path) -> tuple[str, dict[str, Any]]:
    from fastcls.runs import read_record

    record = read_record(path)
    try:
        request = record["request"]
        return str(request["command"]), dict(request["options"])
    except (ValueError, KeyError, TypeError) as error:
        raise OptionError(
            f"{path} holds no request of a command. Name the run.json of a run that the command line made"
        ) from error


def _as_typed(value: Any, parameter: click.Parameter) -> Any:
    """A value of a JSON file as the command line would give it, so that it is checked as strictly."""
    if isinstance(value, bool) and getattr(parameter, "is_flag", False):
        return value
    if isinstance(value, list) and getattr(parameter, "multiple", False):
        return [str(part) for part in value]
    is_list = isinstance(value, list) and getattr(parameter.type, "takes_lists", False)
    return tuple(value) if is_list else str(value)

"""Commands whose options are made of the fields of specs."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastcls.cli.config import read_config
from fastcls.errors import OptionError
from fastcls.specs import BaseSpec
from fastcls.specs.checks import no_effect
from fastcls.specs.data import ReadSpec
from fastcls.specs.extraction import MAX_PIXELS, MAX_PIXELS_SHOWN
from fastcls.specs.option import Option, option
from fastcls.specs.options import build, described, left_out, options_of, overlay, settle, silenced_by

if TYPE_CHECKING:
    from fastcls.data.dataset import Dataset

Command = Callable[..., Any]
_TYPED = "fastcls.typed"  # in the context: names of options that --config gives as if they were typed
# Titles in `--help` of options whose group is not called so.
_TITLES = {
    "source": "Data",
    "reading": "Data",
    "parts": "Split",
    "splits": "Split",
    "place": "Cache",
    "ending": "Report",
    "corrected": "Cache",
    "further": "Training further",
    "start": "Base",
    "pixels": "Images",
    "folding": "Cross-validation",
}


class SpecCommand(click.Command):
    """A command that is called with specs, made of what was typed and what `--config` has loaded.

    A field of a spec that is called as an argument of the command takes its value from there; one that is
    called as a field of an earlier spec shares its option.

    Args:
        specs: The specs that it takes, by the names of its parameters.
        changed: Details of options that differ in this command, by their paths ("training.epochs").
        left_out: Paths of options that stay at their defaults.
        several: Names of options that may be given several times: their specs become lists, with a spec for
            each way to choose one value of each.
        kwargs: See `click.Command`.
    """

    def __init__(
        self,
        *args: Any,
        specs: Mapping[str, type],
        changed: Mapping[str, Mapping[str, Any]] | None = None,
        left_out: Iterable[str] = (),
        several: Iterable[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.specs, self.several = specs, tuple(several)
        # By the place of its value: the parameter, and the fields below it.
        self.known = dict(_placed(specs, changed or {}))
        self.options = {place: own for place, own in self.known.items() if ".".join(place) not in left_out}
        taken = {parameter.name for parameter in self.params}
        for own in self.options.values():
            if own.name not in taken:
                taken.add(own.name)
                self.params.append(_Parameter(own, multiple=own.name in self.several))

    def invoke(self, context: click.Context) -> Any:
        """Call the command with its specs."""
        params = context.params
        _refuse_empty_paths(context)
        names = {own.name for own in self.options.values()}
        values = self._settle(context, {name: params.get(name) for name in names})
        self._refuse_without_effect(context, values)
        own = {parameter.name for parameter in self.params if not isinstance(parameter, _Parameter)}
        context.params = {name: value for name, value in params.items() if name in own}
        for name, spec in self.specs.items():
            several = [own for own in self.several if self._has(name, own)]
            given = itertools.product(*(values.get(own) or (self._default(own),) for own in several))
            made = [
                self._build(name, spec, {**values, **dict(zip(several, each, strict=True))}) for each in given
            ]
            context.params[name] = made if several else made[0]
        return super().invoke(context)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each spec under its name."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if record:
                group = parameter.group if isinstance(parameter, _Parameter) else "options"
                groups.setdefault(group, []).append(record)
        for group, records in groups.items():
            with formatter.section(_TITLES.get(group, group.capitalize())):
                formatter.write_dl(records)

    def _has(self, name: str, option: str) -> bool:
        return any(place[0] == name and own.name == option for place, own in self.options.items())

    def _default(self, option: str) -> Any:
        return next(own.default for own in self.options.values() if own.name == option)

    def _build(self, name: str, spec: type, values: Mapping[str, Any]) -> Any:
        given = {place[1:]: values[own.name] for place, own in self.options.items() if place[0] == name}
        required = [own.path for own in options_of(spec).values() if own.is_required]
        return None if any(given[path] is None for path in required) else build(spec, given)

    def _settle(self, context: click.Context, values: dict[str, Any]) -> dict[str, Any]:
        """The values that count: what was typed over what was loaded, each with what it sets.

        A loaded option that what was typed leaves without effect goes with the loaded choice: nobody could
        type `--optimizer adam` over the momentum of another.
        """
        known = self.options.values()
        loaded, typed = (
            [(own, values[own.name]) for own in self._from(context, source)]
            for source in (ParameterSource.DEFAULT_MAP, ParameterSource.COMMANDLINE)
        )
        settled = overlay([*known], loaded, typed)
        for line in left_out([*known], settled):
            click.echo(line, err=True)
        counted = {own.name: value for own, value in settled}
        for name in self.several:
            if isinstance(counted.get(name), str):  # as a choice sets it
                counted[name] = (counted[name],)
        return {**values, **{own.name: own.default for own, _ in loaded}, **counted}

    def _refuse_without_effect(self, context: click.Context, values: Mapping[str, Any]) -> None:
        typed = list(self._from(context, ParameterSource.COMMANDLINE))
        for choice in self.options.values():
            gone = silenced_by(choice, values[choice.name])
            given = list(dict.fromkeys(other.flag for other in typed if other.names & gone))
            if given:
                raise click.UsageError(no_effect(given, choice.spell(values[choice.name])))

    def _from(self, context: click.Context, source: ParameterSource) -> Iterator[Option]:
        return (own for own in self.options.values() if context.get_parameter_source(own.name) is source)


def _refuse_empty_paths(context: click.Context) -> None:
    """An empty path is a variable of a shell that is not set, and would stand for the working directory."""
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if isinstance(parameter.type, click.Path) and "" in (value if isinstance(value, tuple) else [value]):
            raise click.BadParameter("It is empty. Give a path", context, parameter)


class _Parameter(click.Option):
    """An option of a command that is a field of a spec."""

    def __init__(self, own: Option, *, multiple: bool) -> None:
        self.group = own.path[-2]
        is_flag = bool in own.types
        details: dict[str, Any] = (
            {"is_flag": True, "flag_value": not own.default}
            if is_flag
            else {"type": _Value(own), "multiple": multiple}
        )
        if own.is_required:
            details["required"] = True
        elif not multiple:
            details["default"] = own.default
        metavar = own.metavar or "|".join(own.choices) or None
        super().__init__(
            (own.flag, own.name),
            metavar=None if is_flag else metavar,
            help=own.told,
            **details,
        )


class _Value(click.ParamType):
    """The value of an option, as its spec reads it."""

    def __init__(self, own: Option) -> None:
        kinds = {int: "integer", float: "float", str: "text"}
        self.name = next((name for kind, name in kinds.items() if kind in own.types), "text")
        self._own = own

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was typed, or loaded."""
        try:
            return self._own.parse(value) if isinstance(value, str) else self._own.convert(value)
        except OptionError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The values that begin so; files where there is none, of an option that takes them."""
        found = [value for value in self._own.known_values if value.startswith(incomplete)]
        if not found and self._own.takes_path:
            return [click.shell_completion.CompletionItem(incomplete, type="file")]
        return list(map(click.shell_completion.CompletionItem, found))


def _placed(
    specs: Mapping[str, type], changed: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[tuple[str, ...], Option]]:
    for name, spec in specs.items():
        for own in options_of(spec).values():
            place = (name, *own.path)
            yield place, replace(own, path=place, **changed.get(".".join(place), {}))


@described
@dataclass(frozen=True)
class SourceSpec(ReadSpec):
    """How DATA is read."""

    def open(self, path: str | Path, *, for_test: bool = False) -> Dataset:
        """Open a data set, and say how, where that had to be found out."""
        from fastcls.data.dataset import Dataset

        dataset = Dataset.open(path, self, for_test=for_test)
        if dataset.reading:
            click.echo(dataset.reading, err=True)
        return dataset


@described
@dataclass(frozen=True)
class PlaceSpec:
    """Where bottlenecks are cached, and under which name."""

    cache: str = option(
        "bottlenecks",
        "Folder of bottleneck caches, on this machine or at a URL such as s3://BUCKET/CACHES.",
        metavar="DIRECTORY",
    )
    name: str | None = option(
        None,
        "Name of the data set in the cache, which can hold several: its tables are samples/NAME.csv and "
        "failures/NAME.csv.",
        metavar="NAME",
        shown="the name of the data folder or file",
    )

    def root(self) -> Path:
        """The folder of caches; of a URL, what mirrors it, after a look at what the store has."""
        from fastcls.cache.mirror import opened

        return opened(self.cache, "--cache")


@described
@dataclass(frozen=True)
class PixelSpec:
    """Which images are read."""

    max_pixels: int | None = option(None, MAX_PIXELS, low=1, shown=MAX_PIXELS_SHOWN)

    def __post_init__(self) -> None:
        settle(self)


batch_size = click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="INTEGER",
    default=16,
    show_default=True,
    help="Images per forward pass.",
)
image_key = click.option(
    "--image-key", metavar="KEY", help="Key of the image file in the records of TFRecord files."
)


def _load_config(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None and isinstance(context.command, SpecCommand):
        command = context.command
        loaded, context.meta[_TYPED] = read_config(
            Path(value), str(command.name), command.options, command.known
        )
        for name in command.several:
            if loaded.get(name) is not None:
                loaded[name] = [loaded[name]]
        context.default_map = {**(context.default_map or {}), **loaded}


def complete_bases(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[click.shell_completion.CompletionItem]:
    """What `--base` completes to, for arguments that are bases."""
    return _Value(options_of(BaseSpec)["base"]).shell_complete(context, parameter, incomplete)


def run_options(command: Command) -> Command:
    """Options of the commands that make a run."""
    for add in (
        click.option("--dry-run", is_flag=True, help="Show the model and the plan, and stop."),
        click.option(
            "--config",
            type=click.Path(),
            is_eager=True,
            expose_value=False,
            callback=_load_config,
            metavar="RUN|FILE.json",
            help="Load options from a run of this command, or from a JSON file such as "
            '{"head": "logreg", "seed": 3}. Options on the command line take precedence.',
        ),
        click.option(
            "--restart", is_flag=True, help="Discard an interrupted training in --out and start over."
        ),
        click.option("--out", required=True, type=click.Path(), help="Run folder to create."),
    ):
        command = add(command)
    return command


def saved(**specs: Any) -> dict[str, Any]:
    """Specs as run.json keeps them, for `--config`."""
    return {name: asdict(spec) for name, spec in specs.items() if spec is not None}


def is_typed(*names: str) -> bool:
    """Whether a parameter of the running command was given by the user, be it at its default."""
    context = click.get_current_context()
    return any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in names)


def typed_options() -> list[Option]:
    """The options that the user of the running command typed, or had in a file, be it at their defaults."""
    context = click.get_current_context()
    known = context.command.options.values() if isinstance(context.command, SpecCommand) else ()
    return [own for own in known if is_typed(own.name) or own.name in context.meta.get(_TYPED, ())]


def refuse_typed(choice: str, *names: str) -> None:
    """Refuse options that the user gave although something else leaves them without effect."""
    params = click.get_current_context().command.params
    given = [each.opts[0] for each in params if each.name in names and is_typed(str(each.name))]
    if given:
        raise click.UsageError(no_effect(given, choice))


def show_progress() -> bool:
    """Whether someone is watching stderr."""
    return sys.stderr.isatty()

"""Which engine in which precision: an ordered list of candidates, made without opening a cache."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fastcls.engines import engine_class, engines_of
from fastcls.engines.devices import gpus
from fastcls.errors import MissingExtraError, OptionError
from fastcls.extraction.fidelity import InfidelityError
from fastcls.specs import ENGINES

# int8 is never chosen unasked. Mixed precision on GPUs is float16.
_AUTO_PRECISIONS = ("bfloat16", "float16", "float32")
_AUTO_PRECISIONS_GPU = ("float16", "float32")
Obstacle = OptionError | MissingExtraError


@dataclass(frozen=True)
class Asked:
    """What the user wants of the engine, and what the caches that serve the cuts already have.

    Attributes:
        engine: An engine's name, "auto", or the class of one ("module:class").
        precision: A precision, or "auto".
        begun: Precisions of the caches that lack images, sorted.
    """

    engine: str = "auto"
    precision: str = "auto"
    begun: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """An engine that this machine can run.

    Attributes:
        engine: Its name.
        precision: Type in which it computes.
        path: Its class, "module:class".
        uses_gpu: See `Engine`.
        converts: See `Engine`.
        stands_in: Whether it is tried only where the engine that was asked for cannot convert the trunk.
    """

    engine: str
    precision: str
    path: str
    uses_gpu: bool = False
    converts: bool = False
    stands_in: bool = False

    def __str__(self) -> str:
        return f"{self.engine} in {self.precision}"


@dataclass(frozen=True)
class Machine:
    """What matters of a machine to the choice.

    Attributes:
        has_gpu: Whether it has a GPU.
        able: The engines that it can run, in the order of their table.
        obstacles: {(engine, precision): why it cannot run another}.
    """

    has_gpu: bool = False
    able: tuple[Candidate, ...] = ()
    obstacles: Mapping[tuple[str, str], Obstacle] = field(default_factory=dict)


def candidates(asked: Asked, machine: Machine) -> list[Candidate]:
    """What to try, in order: the precision that was begun first, else the fastest, and the engines likewise.

    Raises:
        OptionError: The caches have different precisions.
    """
    found: list[Candidate] = []
    for precision in _precisions(asked, machine.has_gpu):
        able = [engine for engine in machine.able if engine.precision == precision]
        able.sort(key=lambda engine: machine.has_gpu and not engine.uses_gpu)
        chosen = [engine for engine in able if asked.engine in ("auto", engine.engine)]
        found += chosen
        if any(engine.converts for engine in chosen):
            others = [engine for engine in able if engine not in chosen and not engine.converts]
            found += [replace(engine, stands_in=True) for engine in others]
    return found


def look_at_machine(asked: Asked) -> Machine:
    """Which engines, of those that could come into question, this machine can run."""
    has_gpu = bool(gpus())
    able, obstacles = [], {}
    for precision in _precisions(asked, has_gpu):
        for name, path in _engines_in(asked.engine, precision).items():
            try:
                engine = engine_class(path)
                engine.require()
                able.append(Candidate(name, precision, path, engine.uses_gpu, engine.converts))
            except (OptionError, MissingExtraError) as error:
                obstacles[name, precision] = error
    return Machine(has_gpu, tuple(able), obstacles)


def explain(asked: Asked, machine: Machine, refused: Iterable[Obstacle] = ()) -> Obstacle:
    """The error that says why no candidate is left.

    Args:
        asked: What was wanted.
        machine: What the machine can run.
        refused: What stands against the candidates that were tried.
    """
    own = [error for (name, _), error in machine.obstacles.items() if asked.engine in ("auto", name)]
    different = {str(error): error for error in (*own, *refused)}  # some stand against every precision
    (first, *others) = different.values() or [None]
    if isinstance(first, (MissingExtraError, InfidelityError)) and not others:
        return first
    able = ", ".join(engines_of(asked.precision)) if asked.precision != "auto" else ""
    reasons = "; ".join(different) or f"only {able} can"
    return OptionError(
        f"--engine {asked.engine} --precision {asked.precision} is not available on this machine: {reasons}. "
        "Use --precision float32, or auto"
    )


def describe_candidates(able: Sequence[Candidate], *, is_decided: bool = False) -> str:
    """The candidates in words, such as "bfloat16 if it passes the check, else float32".

    Args:
        able: The candidates.
        is_decided: Whether the first one has passed the check before, for the caches that are to be filled.
    """
    tried = [candidate for candidate in able if not candidate.stands_in]
    if is_decided:
        return f"Precision: {tried[0].precision}, as the cache was started. Engine: {tried[0].engine}"
    precisions = dict.fromkeys(candidate.precision for candidate in tried)
    engines = dict.fromkeys(candidate.engine for candidate in tried)
    told = " if it passes the check, else ".join(precisions)
    return f"Precision: {told}. Engine: {', else '.join(engines)}"


def _engines_in(engine: str, precision: str) -> dict[str, str]:
    """{name: its class} of the engines of a precision."""
    if ":" in engine:
        return {engine: engine}
    return {name: ENGINES[name][precision] for name in engines_of(precision)}


def _precisions(asked: Asked, has_gpu: bool) -> list[str]:
    if asked.precision != "auto":
        return [asked.precision]
    if len(asked.begun) > 1:
        raise OptionError(
            f"The caches of these cuts have different precisions: {' and '.join(asked.begun)}. Extract one "
            "--cut at a time, or choose one --precision for all"
        )
    if ":" in asked.engine:  # one class, which computes in one precision
        return ["float32"]
    return list(dict.fromkeys([*asked.begun, *(_AUTO_PRECISIONS_GPU if has_gpu else _AUTO_PRECISIONS)]))

"""What `--head auto` stands for: decided by what is asked and by sizes, never by the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from fastcls.specs.heads import AUTO, HEADS, HeadSpec, silenced
from fastcls.specs.option import Option
from fastcls.specs.options import options_of, value_at
from fastcls.specs.training import TrainConfig

FITTED, TRAINED = "logreg", "linear"
# Rows x features x classes: there, each value of C took about a second on one core (39,062 x 1280 x 10).
LARGEST_FIT = 500_000_000
# Of a head that is trained in epochs.
_NEVER_REFITTED = "; --no-refit changes nothing there: the images for validation are never trained on"


@dataclass(frozen=True)
class HeadChoice:
    """What is trained, and how.

    Attributes:
        head: Of a kind that can be trained.
        config: How, with the penalty that the head has by default.
        why: Why `auto` stands for this kind, in words; "" where another kind was asked for.
    """

    head: HeadSpec
    config: TrainConfig
    why: str = ""


def choose_head(
    head: HeadSpec,
    config: TrainConfig,
    *,
    rows: int,
    features: int,
    classes: int,
    views: int = 1,
    given: Iterable[Option] = (),
) -> HeadChoice:
    """Decide what is trained.

    Args:
        head: What is asked for.
        config: How it is to be trained.
        rows: Images to train and to validate on.
        features: The length of what is left of a bottleneck when it is averaged over its positions.
        classes: How many.
        views: Views of each image to train on.
        given: Options that the user typed, be it at their defaults.
    """
    why = ""
    if head.kind == AUTO:
        asked = head
        kind, why = _choose(head, config, (rows, features, classes), views, given)
        head = replace(head, kind=kind, refit=head.refit or kind == TRAINED)  # which never trains on them
        unused = "" if asked.refit or kind == FITTED else _NEVER_REFITTED
        why = f"--head {AUTO} takes {kind}{why}{unused}"
    if "loss" in head.traits.takes and config.loss.l2 is None:
        config = replace(config, loss=replace(config.loss, l2=head.l2))
    return HeadChoice(head, config, why)


def deciding(head: HeadSpec, config: TrainConfig, given: Iterable[Option]) -> list[str]:
    """Names of options that decide what `auto` takes although they are at their defaults: they were typed."""
    if head.kind != AUTO or any(_for_gradients(head, config, ())):
        return []
    only = frozenset(silenced(FITTED))
    return sorted(own.name for own in given if own.names & only)


def _choose(
    head: HeadSpec, config: TrainConfig, sizes: tuple[int, int, int], views: int, given: Iterable[Option]
) -> tuple[str, str]:
    """The kind, and why."""
    rows, features, classes = sizes
    flags = list(dict.fromkeys(_for_gradients(head, config, given)))
    size = rows * features * classes
    spelled = f"{rows:,} images x {features:,} features x {classes:,} classes = {size:,}"
    if flags:
        return TRAINED, f", as {' and '.join(flags)} {'was' if len(flags) == 1 else 'were'} given"
    if views > 1:
        return TRAINED, f", as there are {views} views of each image: an epoch takes one of them"
    if size > LARGEST_FIT:
        return TRAINED, f": {spelled}, more than {LARGEST_FIT:,}"
    return FITTED, " (logistic regression)"


def _for_gradients(head: HeadSpec, config: TrainConfig, given: Iterable[Option]) -> Iterator[str]:
    """Flags of what was asked for and has an effect only where gradients train."""
    only = frozenset(silenced(FITTED))
    typed = [own for own in given if own.names & only]
    yield from (own.flag for own in typed)
    known = {name for own in typed for name in own.names & only}
    for spec in (head, config):
        for own in options_of(type(spec)).values():
            differs = value_at(spec, own.path) != own.default
            if differs and own.names & only and not own.names & only <= known:
                yield own.flag
    if head.bottleneck_norm not in HEADS[FITTED].norms:
        yield f"--bottleneck-norm {head.bottleneck_norm}"

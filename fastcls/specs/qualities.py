"""Recipes of whole jobs: what `--quality` sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastcls.specs.bases import CutSpec
from fastcls.specs.heads import HeadSpec
from fastcls.specs.option import option
from fastcls.specs.options import described, fill_in, options_of, settle
from fastcls.specs.training import TrainConfig
from fastcls.specs.views import ViewSpec

# {name: {"Spec.field": value}}. A new quality is one entry.
QUALITIES: Mapping[str, Mapping[str, Any]] = {
    "fast": {},
    "best": {
        "CutSpec.layer": "80%",
        "CutSpec.dtype": "float16",
        "ViewSpec.views": 8,
        "HeadSpec.kind": "tail",
        "HeadSpec.layers": (0.4,),
        "TrainConfig.epochs": 10,
        "ScheduleSpec.kind": "cosine",
        "LossSpec.label_smoothing": 0.1,
    },
}


def spelled(quality: str) -> str:
    """What a quality stands for, as it is typed.

    >>> spelled("best").split(" --")[:2]
    ['--cut 80%', 'dtype float16']
    """
    return " ".join(_spelled(quality))


def _spelled(quality: str) -> Iterator[str]:
    known = [own for spec in (CutSpec, ViewSpec, HeadSpec, TrainConfig) for own in options_of(spec).values()]
    for name, value in QUALITIES[quality].items():
        (own,) = (own for own in known if name in own.names)
        yield own.spell(value)


@described
@dataclass(frozen=True)
class QualitySpec:
    """How much time and space a job may take."""

    quality: str = option(
        "fast",
        "Recipe of the whole job; options you give override it. fast: all defaults. best, for photos: "
        "the last fifth of the base is trained as well, on augmented views, which takes two to "
        f"three times as long: {spelled('best')}.",
        choices=QUALITIES,
        sets=QUALITIES,
    )

    def __post_init__(self) -> None:
        settle(self)


def with_quality(
    quality: str, cut: CutSpec, views: ViewSpec, head: HeadSpec, config: TrainConfig
) -> tuple[CutSpec, ViewSpec, HeadSpec, TrainConfig]:
    """The specs of a job, in which options at their defaults are as a quality sets them.

    Raises:
        OptionError: There is no such quality, or an option has no effect with what it sets.

    >>> cut, _, head, config = with_quality(
    ...     "best", CutSpec("lenet5"), ViewSpec(), HeadSpec(), TrainConfig(epochs=20)
    ... )
    >>> cut.layer, head.kind, config.epochs, config.schedule.kind
    ('80%', 'tail', 20, 'cosine')
    """
    chosen = QualitySpec(quality).quality
    own = options_of(QualitySpec)["quality"]
    cut, views, head, config = fill_in(own, chosen, cut, views, head, config)
    return cut, views, head, config

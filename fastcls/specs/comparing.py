"""How bases are compared, and how a command line names several of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fastcls.errors import OptionError
from fastcls.specs.bases import NAMED_WEIGHTS, NORMALIZATIONS, BaseSpec, CutSpec
from fastcls.specs.folds import FoldSpec
from fastcls.specs.option import option
from fastcls.specs.options import described

DEFAULT_CUT = "default"  # beside other cuts


@described
@dataclass(frozen=True)
class ProbeSpec(FoldSpec):
    """The cross-validated logistic regression by which bases are ranked."""

    folds: int = option(
        5, "Parts that the images are dealt into: each is judged by a fit of the others.", low=2
    )
    seed: int = option(0, "Seed of the folds.", low=0)


def cuts_of(given: Iterable[CutSpec]) -> list[CutSpec]:
    """The cuts of bases that are named as a command line does: BASE=WEIGHTS@NORMALIZATION, by commas.

    Weights and normalization may be left out; those of the given cut are taken then. What is there as a file
    or folder is a base by its whole name. The layer "default" is the cut before the classifier.

    Args:
        given: Cuts; the names of their bases may be such texts.

    Raises:
        OptionError: A base is given twice, or the file of weights is given for several bases.

    >>> cuts = cuts_of([CutSpec("resnet50,mobilenetv2=mine.h5,net.keras@torch")])
    >>> [(cut.base.name, cut.base.weights, cut.base.normalize) for cut in cuts]
    [('resnet50', None, None), ('mobilenetv2', 'mine.h5', None), ('net.keras', None, 'torch')]
    """
    cuts = [
        replace(cut, base=base, layer=None if cut.layer == DEFAULT_CUT else cut.layer)
        for cut in given
        for base in _bases_in(cut.base)
    ]
    for place, cut in enumerate(cuts):
        if cut in cuts[:place]:
            at = f" cut at {cut.layer}" if cut.layer else ""
            raise OptionError(f"{cut.base.name}{at} is given twice. Remove one")
    _require_own_weights({cut.base: None for cut in cuts})
    return cuts


def _bases_in(base: BaseSpec) -> list[BaseSpec]:
    parts = [base.name] if Path(base.name).exists() else base.name.split(",")
    return [_base_in(part.strip(), base) for part in parts]


def _base_in(text: str, shared: BaseSpec) -> BaseSpec:
    name, weights, normalize = text, "", ""
    if not Path(text).exists():
        before, _, last = text.rpartition("@")
        text, normalize = (before, last) if last in NORMALIZATIONS else (text, "")
        name, _, weights = text.partition("=")
    if not name or text.endswith("="):
        raise OptionError(
            f"--base takes BASE, BASE=WEIGHTS or BASE@NORMALIZATION, several separated by commas. Received: "
            f"{shared.name!r}"
        )
    return replace(
        shared, name=name, weights=weights or shared.weights, normalize=normalize or shared.normalize
    )


def _require_own_weights(bases: Iterable[BaseSpec]) -> None:
    users: dict[str, list[str]] = {}
    for base in bases:
        if base.weights and base.weights not in NAMED_WEIGHTS:
            users.setdefault(base.weights, []).append(base.name)
    for weights, names in users.items():
        if len({*names}) > 1:
            raise OptionError(
                f"--weights {weights} cannot be those of {' and of '.join(dict.fromkeys(names))}. Give each "
                f"base its own: --base {names[0]}={weights}"
            )

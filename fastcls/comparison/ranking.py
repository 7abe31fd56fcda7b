"""Bases side by side: figures, costs, and which of them are efficient."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastcls
from fastcls import files
from fastcls.comparison.costs import Cost, Rate
from fastcls.comparison.pictures import NAME_COLUMNS, Point, draw_front, shorten_amid
from fastcls.evaluation.paired import Figure, Measured, ranks_of, ties_in_words
from fastcls.evaluation.text_table import format_table
from fastcls.optional import frame
from fastcls.sizes import format_bytes
from fastcls.specs.comparing import ProbeSpec
from fastcls.wording import count_of

if TYPE_CHECKING:
    import pandas

RESULT, TABLE, PICTURE = "comparison.json", "comparison.csv", "comparison.png"


@dataclass(frozen=True)
class RankedBase:
    """One candidate: a base, cut somewhere.

    Attributes:
        name: What tells it apart from the others: its base, and in what else they differ.
        base: The base as it was given.
        weights: Its weights as they were given; None for its own.
        layer: The cut.
        pool: What became of a spatial cut; "none" where there was nothing to pool.
        cache: Folder of its bottlenecks.
        data_set: What the images are called there.
        measured: The figures out of fold by their names; the first ranks.
        test: The same figures of the images for testing; empty without such.
        c: What the logistic regression chose.
        rate: How fast it was; None where that is unknown.
        bytes_per_image: Of one bottleneck in the cache.
        precision: In which its trunk was run.
        cost: What its trunk computes.
        is_efficient: Whether no other is at least as good and needs at most as many multiply-adds.
    """

    name: str
    base: str
    weights: str | None
    layer: str
    pool: str
    cache: Path
    data_set: str
    measured: Mapping[str, Measured]
    test: Mapping[str, float]
    c: float
    rate: Rate | None
    bytes_per_image: int
    precision: str
    cost: Cost
    is_efficient: bool = False

    @property
    def chief(self) -> Measured:
        """The figure that ranks."""
        return next(iter(self.measured.values()))

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON can hold; an estimate is [value, low, high]."""
        return {
            "name": self.name,
            "base": self.base,
            "weights": self.weights,
            "layer": self.layer,
            "pool": self.pool,
            "cache": str(self.cache),
            "data_set": self.data_set,
            "out_of_fold": {name: own.estimate.to_list() for name, own in self.measured.items()},
            "difference_to_best": {name: own.behind.to_list() for name, own in self.measured.items()},
            "test": dict(self.test),
            "c": self.c,
            "images_per_second": self.rate.images_per_second if self.rate else None,
            "measured_now": self.rate.is_of_now if self.rate else None,
            "precision": self.precision,
            "bytes_per_image": self.bytes_per_image,
            "multiply_adds": self.cost.multiply_adds,
            "parameters": self.cost.parameters,
            "efficient": self.is_efficient,
        }


@dataclass(frozen=True)
class BaseComparison:
    """Bases, ranked on the images of a data set.

    Attributes:
        data: The folder, table or pattern that the images were read from, absolute.
        images: How many they were ranked on.
        test_images: How many are for testing, which has no part in the ranking.
        figures: What was measured; the first ranks.
        probe: How.
        candidates: The best first.
        failed: The others, by their names: why they could not be compared.
    """

    data: str
    images: int
    test_images: int
    figures: tuple[Figure, ...]
    probe: ProbeSpec
    candidates: tuple[RankedBase, ...]
    failed: Mapping[str, str]

    def __repr__(self) -> str:
        ranked = ", ".join(f"{own.name} {own.chief.estimate.value:.3f}" for own in self.candidates)
        return f"<BaseComparison on {count_of(self.images, 'image')}: {ranked}>"

    def table(self) -> str:
        """A row per candidate, and in sentences what it is of and what it says."""
        titles = [figure.title for figure in self.figures]
        heads = ["", "base", titles[0], "to the best", *titles[1:], *(["test"] if self.test_images else [])]
        precision = ["precision"] if self._has_precisions else []
        rows = [[*heads, "images/s", *precision, "bytes/image", "multiply-adds", "parameters", ""]]
        rows += [self._row(*each) for each in zip(self._ranks, self.candidates, strict=True)]
        return "\n".join([format_table(_left_aligned(rows)), "", *self.sentences()])

    def sentences(self) -> list[str]:
        """What the table is of, and what follows from it."""
        repeats = f", {count_of(self.probe.repeats, 'time')}" if self.probe.repeats > 1 else ""
        lines = [
            f"Ranked by {self.figures[0].title} of logistic regression on {count_of(self.images, 'image')}, "
            f"each predicted by a fit of the other folds ({self.probe.folds} folds{repeats}), with 95 % "
            "intervals over the images",
            "*: no other is at least as good with as few multiply-adds",
        ]
        if self.test_images:
            lines.append(
                f"test: {count_of(self.test_images, 'test image')}, which have no part in the ranking"
            )
        if any(own.rate and not own.rate.is_of_now for own in self.candidates):
            lines.append(
                "(images/s): from an earlier extraction on this machine; its rows came from the cache"
            )
        if any(not own.rate for own in self.candidates):
            lines.append("images/s -: all rows came from the cache")
        if len({(own.base, own.weights) for own in self.candidates}) < len(self.candidates):
            lines.append("images/s of cuts that were forwarded together are those of all of them")
        ranked = {own.name: own.chief for own in self.candidates}
        lines += ties_in_words(ranked, self.figures[0].title)
        lines += [f"left out: {name} ({reason})" for name, reason in self.failed.items()]
        return [*lines, *self._advice()]

    def _advice(self) -> list[str]:
        """The cheapest candidate that cannot be told from the best."""
        best, *others = self.candidates
        others = [own for own in others if own.chief.alike != best.chief.alike]
        near = [own for own in others if own.chief.behind.high >= 0]
        if not near:
            lead = f"{best.name} is better than every other, beyond what chance explains"
            return [lead] if others else []
        cheapest = min(near, key=lambda own: own.cost.multiply_adds)
        told = f"Not to be told from {best.name} on these images: {', '.join(own.name for own in near)}"
        if cheapest.cost.multiply_adds >= best.cost.multiply_adds:
            return [told]
        share = cheapest.cost.multiply_adds / best.cost.multiply_adds
        return [f"{told}. {cheapest.name} needs {share:.0%} of its multiply-adds"]

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        return {
            "fastcls": fastcls.__version__,
            "data": self.data,
            "images": self.images,
            "test_images": self.test_images,
            "folds": self.probe.folds,
            "repeats": self.probe.repeats,
            "seed": self.probe.seed,
            "ranked_by": self.figures[0].name,
            "candidates": [own.to_dict() for own in self.candidates],
            "failed": dict(self.failed),
        }

    def to_frame(self) -> pandas.DataFrame:
        """A row per candidate.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        names, *rows = self._lines()
        return frame(rows, names)

    def write(self, folder: Path) -> None:
        """Write comparison.json, comparison.csv and comparison.png into a new folder."""
        with files.atomic_folder(folder) as temporary:
            files.write_json(temporary / RESULT, self.to_dict())
            with (temporary / TABLE).open("w", **files.CSV_TEXT) as file:
                csv.writer(file).writerows(self._lines())
            points = [
                Point(own.name, own.cost.multiply_adds, own.chief.estimate, own.is_efficient)
                for own in self.candidates
            ]
            draw_front(points, self.figures[0].title, temporary / PICTURE)

    @property
    def _ranks(self) -> list[int]:
        return ranks_of([own.chief for own in self.candidates])

    @property
    def _has_precisions(self) -> bool:
        return len({own.precision for own in self.candidates}) > 1

    def _row(self, place: int, own: RankedBase) -> list[str]:
        chief, *others = own.measured.values()
        behind = "" if place == 1 else chief.behind.signed()
        tested = [f"{own.test[self.figures[0].name]:.3f}"] if self.test_images else []
        rate = f"{own.rate.images_per_second:,.0f}" if own.rate else "-"
        rate = rate if not own.rate or own.rate.is_of_now else f"({rate})"
        return [
            *(f"{place}", shorten_amid(own.name, NAME_COLUMNS), str(chief.estimate), behind),
            *(f"{other.estimate.value:.3f}" for other in others),
            *tested,
            rate,
            *([own.precision] if self._has_precisions else []),
            *(format_bytes(own.bytes_per_image), _short(own.cost.multiply_adds)),
            *(_short(own.cost.parameters), "*" if own.is_efficient else ""),
        ]

    def _lines(self) -> list[list[Any]]:
        """A table of plain numbers, with its header."""
        plain = [
            {name: value for name, value in own.to_dict().items() if not isinstance(value, dict)}
            | {
                f"{name}{part}": value
                for name, measured in own.measured.items()
                for part, values in (("", measured.estimate), ("_to_best", measured.behind))
                for part, value in _named(part, values.to_list())
            }
            | {f"test_{name}": value for name, value in own.test.items()}
            for own in self.candidates
        ]
        ranked = zip(self._ranks, plain, strict=True)
        return [["rank", *plain[0]], *([rank, *row.values()] for rank, row in ranked)]


def find_efficient(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Which candidates no other beats in one of both without losing in the other (the Pareto front).

    >>> find_efficient([3, 1, 2, 4], [0.9, 0.7, 0.6, 0.9])
    [True, True, False, False]
    """
    pairs = list(zip(costs, values, strict=True))
    return [
        not any(other != own and other[0] <= own[0] and other[1] >= own[1] for other in pairs)
        for own in pairs
    ]


def _named(part: str, values: Sequence[Any]) -> list[tuple[str, Any]]:
    return list(zip((part, f"{part}_low", f"{part}_high"), values, strict=True))


def _short(count: int) -> str:
    """A large number.

    >>> _short(24_580), _short(299_540_000), _short(3_860_000_000)
    ('24.6 k', '299.5 M', '3.86 G')
    """
    for unit, size, digits in (("G", 10**9, 2), ("M", 10**6, 1), ("k", 10**3, 1)):
        if count >= size:
            return f"{count / size:,.{digits}f} {unit}"
    return str(count)


def _left_aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rank and name as one column, which tables align to the left."""
    return [[f"{rank:>2} {name}" if rank else f"   {name}", *rest] for rank, name, *rest in rows]

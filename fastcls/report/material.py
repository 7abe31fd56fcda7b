"""All that a report tells of, gathered from the run and its cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastcls.cache.store import Cache
from fastcls.errors import FastclsError
from fastcls.evaluation.features import Features, features_of_run
from fastcls.evaluation.from_cache import find_cache, why_no_cache
from fastcls.report.collection import Collection, collect
from fastcls.report.suspects import Suspects
from fastcls.report.tested import TestResult, choose_test, read_test
from fastcls.runs import Run

_WITHOUT = "There is no map, no training image and no suspected label error on this page. "


@dataclass(frozen=True, eq=False)
class Material:
    """What a report is made of.

    Attributes:
        run: The run.
        result: The test that is shown; None of a run that was never tested.
        features: The rows of its data set; None where the cache is gone.
        images: Those of both.
        extraction: Figures of the extraction, from the cache.
        suspects: What an audit doubts: see `find_suspects`.
        notes: What is missing, in sentences.
    """

    run: Run
    result: TestResult | None
    features: Features | None
    images: Collection
    extraction: dict[str, Any] = field(default_factory=dict)
    suspects: Suspects = field(default_factory=Suspects)
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the run."""
        return tuple(self.run.record["class_names"])

    @property
    def unfamiliar_unknown(self) -> str:
        """Why it is unknown how many test images are unlike those trained on; "" where it is known."""
        if self.result is None or self.result.on.get("unfamiliar") is not None:
            return ""
        if self.run.record.get("familiarity"):
            return "How many test images are unlike those trained on is not known of this test: test again."
        return (
            "How many test images are unlike those trained on is not known: runs of earlier versions, "
            "finetuned networks and heads on a tail do not measure it."
        )


def gather(folder: Path, test: str | None = None) -> Material:
    """Read what is known of a run, without an audit.

    Args:
        folder: The run folder.
        test: The name of a test of it; None for the latest.

    Raises:
        OptionError: It is no run, a file of it is damaged, or there is no such test.
    """
    run = Run.open(folder)
    name = choose_test(run, test)
    result = read_test(run, name) if name is not None else None
    notes = [] if result else [f"This run was never tested. To test it: fastcls test {folder} DATA"]
    features, extraction = _features(run, notes)
    images = collect(run.record["class_names"], result, features)
    return Material(run, result, features, images, extraction, notes=tuple(notes))


def _features(run: Run, notes: list[str]) -> tuple[Features | None, dict[str, Any]]:
    try:
        if find_cache(run) is None:
            notes.append(_WITHOUT + why_no_cache(run))
            return None, {}
        features = features_of_run(run)
        return features, _extraction(run, features.name)
    except (FastclsError, OSError) as error:
        notes.append(_WITHOUT + str(error))
    return None, {}


def _extraction(run: Run, name: str) -> dict[str, Any]:
    found = find_cache(run)
    return dict(Cache(found.cache.folder, name).listing.report().extraction) if found else {}

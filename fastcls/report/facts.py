"""The tables and sentences of a report that need no script."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.report.collection import SPLITS
from fastcls.report.material import Material
from fastcls.report.pixel_facts import poor_kinds, unmeasured
from fastcls.wording import count_of

# What metrics.json calls a figure, in words: the first ones that are there are shown large.
FIGURES = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "mean_auroc": "mean AUROC",
    "auroc": "AUROC",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "mean_average_precision": "mean average precision",
    "average_precision": "average precision",
    "top_k_accuracy": "top-{top_k} accuracy",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "hamming_loss": "Hamming loss",
    "log_loss": "log loss",
    "brier": "Brier score",
    "brier_score": "Brier score",
    "ece": "calibration error (ECE)",
}
HEADLINES = 4
PERCENT = "\u00a0%"  # no line breaks before it
_SHARES = ("loss", "brier")  # parts of names of figures that are no shares
_CONSTANT = ("images", "top_k")


@dataclass(frozen=True)
class Figure:
    """One figure of a test.

    Attributes:
        key: Its name in metrics.json.
        name: In words.
        value: The figure.
        low: Where its interval begins; None without one.
        high: Where it ends.
        is_share: Whether it is shown as a percentage.
    """

    key: str
    name: str
    value: float
    low: float | None = None
    high: float | None = None
    is_share: bool = True

    @property
    def text(self) -> str:
        """The figure as it is shown."""
        return self._told(self.value)

    @property
    def interval(self) -> str:
        """Its interval, or ""."""
        if self.low is None or self.high is None:
            return ""
        return f"{self._told(self.low, bare=True)} to {self._told(self.high)}"

    def _told(self, value: float, *, bare: bool = False) -> str:
        if not self.is_share:
            return f"{value:.3f}"
        return f"{100 * value:.1f}{'' if bare else PERCENT}"


def figures(metrics: Mapping[str, Any]) -> list[Figure]:
    """The figures of a test, those that say most first."""
    known = [name for name in metrics if _is_figure(name, metrics[name])]
    if metrics.get("top_k", 0) >= len(metrics.get("classes", ())):  # every class is among so many
        known = [name for name in known if name != "top_k_accuracy"]
    ranks = {name: rank for rank, name in enumerate(FIGURES)}
    known.sort(key=lambda name: ranks.get(name, len(ranks)))
    return [_figure(name, metrics) for name in known]


def _is_figure(name: str, value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and name not in _CONSTANT and math.isfinite(value)


def _figure(name: str, metrics: Mapping[str, Any]) -> Figure:
    words = FIGURES.get(name, name.replace("_", " ")).format(top_k=metrics.get("top_k", "k"))
    low, high = (metrics.get("intervals") or {}).get(name) or (None, None)
    is_share = not any(part in name for part in _SHARES) or name == "hamming_loss"
    return Figure(name, words, float(metrics[name]), low, high, is_share)


@dataclass(frozen=True)
class ClassRow:
    """A class in the table of classes.

    Attributes:
        label: Its index.
        name: Its name.
        counts: Its images in each of `SPLITS`.
        figures: Of the test, by their names in metrics.json.
    """

    label: int
    name: str
    counts: tuple[int, ...]
    figures: Mapping[str, float | None]


def class_rows(material: Material) -> list[ClassRow]:
    """A row per class."""
    counts = split_counts(material)
    known = material.result.metrics.get("classes", []) if material.result else []
    by_name = {row["class_name"]: row for row in known}
    return [
        ClassRow(label, name, tuple(counts[label].tolist()), _scores(by_name.get(name, {})))
        for label, name in enumerate(material.class_names)
    ]


def _scores(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: row.get(name) for name in row if isinstance(row[name], float) or row[name] is None}


def split_counts(material: Material) -> np.ndarray:
    """(C, 4) int: images of each class in each of `SPLITS`, those of a cache that is gone included."""
    counts = np.zeros((len(material.class_names), len(SPLITS)), np.int64)
    images = material.images
    for labels, split in zip(images.labels, images.splits, strict=True):
        counts[list(labels), SPLITS.index(split)] += 1
    if material.features is None:
        index = {name: label for label, name in enumerate(material.class_names)}
        for image in material.run.used.images:
            split = image.use if image.use in SPLITS else "val" if image.use == "refit" else "other"
            counts[[index[name] for name in image.labels if name in index], SPLITS.index(split)] += 1
    return counts


def data_facts(material: Material) -> list[tuple[str, str]]:
    """What is known of the images: a name and a sentence each."""
    images, features = material.images, material.features
    splits = Counter(images.splits)
    named = {"other": "not used"}
    found = [
        (f"{named.get(split, split)} images".capitalize(), f"{splits[split]:,}")
        for split in SPLITS
        if splits[split]
    ]
    if features is not None:
        repeated = len(features) - len({*features.digests.tolist()})
        found.append(("Exact copies", f"{repeated:,}"))
        found.append(("Unreadable", f"{len(features.failures):,}"))
        if features.missing:
            found.append(("Not in the cache yet", f"{features.missing:,}"))
    found += [(title, f"{material.suspects.poor_counts[kind]:,}") for kind, title, _ in poor_kinds(material)]
    if unknown := unmeasured(material):
        found.append(("Of unknown quality", f"{unknown:,} (extracted by an earlier version)"))
    if material.result and (unreadable := material.result.on.get("unreadable")):
        found.append(("Unreadable in the test", f"{unreadable:,}"))
    if material.result and (unfamiliar := material.result.on.get("unfamiliar")) is not None:
        found.append(("Test images unlike training", f"{unfamiliar:,}"))
    return found


def provenance(material: Material) -> list[tuple[str, str]]:
    """How the run was made: a name and a text each."""
    record, on = material.run.record, material.result.on if material.result else {}
    known, asked = dict(record.get("cache") or {}), material.run.asked
    data = asked.get("data")
    pairs = [
        ("Command", f"fastcls {asked.get('command', '')}"),
        ("Data", data["name"] if isinstance(data, dict) and "name" in data else ""),
        ("Base", str(known.get("base", ""))),
        ("Weights", str(known.get("weights", ""))),
        ("Cut", f"{known.get('layer', '')}, {shape_of(known.get('shape'))}" if known else ""),
        ("Image size", shape_of(known.get("size"))),
        ("Precision", str(known.get("precision", ""))),
        ("Head", head_of(material)),
        ("Cache", str(known.get("fingerprint", ""))[:12]),
        ("Classifier", str(on.get("model", ""))[:12]),
        ("Tested", str(on.get("date", "")).replace("T", " ")),
        ("Versions", versions_of(record, known)),
    ]
    return [(name, text) for name, text in pairs if text]


def shape_of(shape: Sequence[int] | None) -> str:
    """A shape as text."""
    return "×".join(map(str, shape or ()))


def head_of(material: Material) -> str:
    """The kind of head of a run."""
    return str(dict(material.run.resolved.get("head") or {}).get("kind", ""))


def versions_of(record: Mapping[str, Any], cache: Mapping[str, Any]) -> str:
    """The packages that made a run."""
    versions = {**dict(cache.get("versions") or {}), "fastcls": record.get("fastcls", "")}
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def stages(material: Material) -> list[tuple[str, float]]:
    """Seconds of each stage, as far as they are known."""
    trained = sum(row.get("seconds", 0.0) for row in material.run.history())
    known = [
        ("extraction", material.extraction.get("seconds")),
        ("training of the head", trained),
        ("test", material.result.on.get("seconds") if material.result else None),
    ]
    return [(name, float(seconds)) for name, seconds in known if seconds]


def lead(material: Material) -> str:
    """What was trained on what, in a sentence."""
    known, record = dict(material.run.record.get("cache") or {}), material.run.record
    base, layer = known.get("base"), known.get("layer")
    cut = f"{base}, cut at {layer}" if base else "A network"
    head = f", with a {head_of(material)} head" if head_of(material) else ""
    told = [f"{cut}{head}", f"{count_of(len(material.class_names), 'class')}, {material.run.task} per image"]
    train = count_of(record["train_count"], "image")
    told.append(f"{train} for training and {record['val_count']:,} for validation")
    return "; ".join(told) + "."


def tested_lead(material: Material) -> str:
    """On what it was tested, in a sentence."""
    if material.result is None:
        return ""
    on, images = material.result.on, len(material.result.paths)
    part = {"test": " (its test part)", "new": " (those that the run held out)"}.get(str(on.get("part")), "")
    seen = sum((on.get("seen") or {}).values())
    of_them = f"{seen:,} of them were used in training or validation" if seen else "none used in training"
    if on.get("seen") is None:
        of_them = "it is unknown which were used in training"
    return f"Tested on {count_of(images, 'image')} of {Path(str(on.get('data', ''))).name}{part}; {of_them}."

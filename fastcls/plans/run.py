"""The plan of `run`: from a data set to a tested classifier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fastcls import files, runs
from fastcls.backend import import_keras, reproducible_build
from fastcls.cache.samples import SampleRow
from fastcls.data.dataset import Dataset
from fastcls.evaluation.tester import find_test
from fastcls.extraction.planner import CutPlan, ExtractionPlan, plan_extraction
from fastcls.files import PathLike
from fastcls.plans.earlier import require_same_run
from fastcls.plans.parts import Parts, choose_shares, make_parts
from fastcls.plans.wording import describe_files, describe_training, files_of
from fastcls.specs import (
    CutSpec,
    ExtractConfig,
    HeadChoice,
    HeadSpec,
    TrainConfig,
    ViewSpec,
    check_cut,
    check_effect,
    check_labels,
    choose_head,
    deciding,
)
from fastcls.specs.option import Option
from fastcls.training.head_trainer import require_tail
from fastcls.training.heads.fitting import require_memory
from fastcls.training.heads.network import build_head
from fastcls.training.loop.checkpoints import has_checkpoint
from fastcls.training.rows.selection import assign_uses


@dataclass(frozen=True)
class RunPlan:
    """A whole job that is checked, and of which nothing is done yet.

    What images look like inside is not known yet: those that cannot be read are left out while it runs.

    Attributes:
        parts: The data set with its parts.
        extraction: What is forwarded.
        head: The head to train.
        config: How it is trained, on these parts.
        model: Its network; None for one that is fitted at once, or starts from texts.
        counts: Images to train and to validate on, as far as they can be read.
        out: The run folder.
        folder: Where the run is made: see `runs.examine`.
        asked: What was asked for, as far as it decides the result.
        test: Where the result of the test is to be written; None without a test, or if it is there.
        why: Why the head is of its kind: see `HeadChoice`; and what texts it starts from.
        options: Further options to store in run.json, for `--config`.
        restart: Begin again where a training was interrupted.
    """

    parts: Parts
    extraction: ExtractionPlan
    head: HeadSpec
    config: TrainConfig
    model: Any
    counts: tuple[int, int]
    out: Path
    folder: Path
    asked: Mapping[str, Any]
    test: Path | None = None
    why: str = ""
    options: Mapping[str, Any] | None = None
    restart: bool = False

    @property
    def writes(self) -> tuple[str, ...]:
        """What is written into the run folder; names of folders end with a slash."""
        new = files_of(self.head, self.config, has_val=self.counts[1] > 0)
        own = () if runs.is_complete(self.out) else new
        return (*own, f"{self.test.relative_to(self.out).as_posix()}/") if self.test else own

    def __str__(self) -> str:
        """What `--dry-run` shows."""
        parts, task = self.parts, self.parts.dataset.task
        training = describe_training(self.head, self.model, self.config, self.counts, task)
        written = describe_files(self.out, self.folder, self.writes, restart=self.restart)
        lines = [str(parts), *parts.notes, *self.extraction.describe(), self.why, *training]
        lines += [parts.untested, written]
        return "\n".join(filter(None, lines))


def plan_run(
    dataset: Dataset,
    cut: CutSpec,
    head: HeadSpec,
    config: TrainConfig,
    out: PathLike,
    *,
    cache_root: PathLike,
    test: float | None = None,
    views: ViewSpec | None = None,
    name: str | None = None,
    extraction: ExtractConfig | None = None,
    given: Iterable[Option] = (),
    options: Mapping[str, Any] | None = None,
    restart: bool = False,
) -> RunPlan:
    """Check a whole job, and decide all that it takes; nothing is forwarded, trained or written.

    Args:
        dataset: The images. Parts that it has stay as they are.
        cut: Base and cut.
        head: The head to train.
        config: How to train it. Its `val` is the share to validate on: None for the validation part of the
            data, or 0.2 where there is none; 0 for none.
        out: The run folder; an existing one must have the same options, and is tested.
        cache_root: Folder of bottleneck caches, or its URL.
        test: The share to test on, of data that is not split; None for 0.2. 0 leaves out the test, and so
            does data that is split without a test part.
        views: Augmented views to make of each image to train on; all are trained on.
        name: What the data set is called in the cache, which may serve several; its own name by default.
        extraction: How the extraction runs.
        given: Options that were typed: see `choose_head`.
        options: Further options to store in run.json, for `--config`.
        restart: Begin again where a training was interrupted.

    Raises:
        OptionError: `out` holds something else, base or cut cannot be used, the head does not fit, an option
            has no effect on it, or a fraction is given for data that is already split.
        DataError: The images cannot be split, or a class has none to train on.
    """
    out, given = Path(out), tuple(given)
    check_effect(head, config)
    check_labels(head, config, dataset.task)
    check_cut(head, cut)
    shares = choose_shares(dataset, config, test)
    config = replace(config, val=0.0 if config.val == 0 else None)  # what was a share will be a part
    asked = {
        "command": "run",
        "data": told_of(dataset),
        "cut": asdict(cut),
        "head": asdict(head),
        "training": asdict(config),
        "typed": deciding(head, config, given),
        "splits": asdict(shares) if shares else None,
        "views": asdict(views) if views else None,
    }
    folder = runs.examine(out, asked, has_checkpoint, restart=restart)
    parts = make_parts(dataset, shares, tests=test != 0)
    counts = _count_rows(parts.dataset, config)
    planned = plan_extraction(parts.dataset, [cut], cache_root, extraction, views=views, name=name)
    choice = _choose_head(head, config, planned.cuts[0], parts.dataset, counts, views, given)
    texts = _read_texts(choice.head, cut, planned.cuts[0], parts.dataset)
    model = _build(choice.head, planned.cuts[0], parts.dataset)
    if not restart and (runs.is_complete(folder) or has_checkpoint(folder)):
        require_same_run(folder, planned, choice.head, choice.config)
    return RunPlan(
        *(parts, planned, choice.head, choice.config, model, counts, out, folder, asked),
        test=None if parts.untested else _find_test(out, parts.dataset),
        why="\n".join(filter(None, [choice.why, texts])),
        options=options,
        restart=restart,
    )


def _find_test(out: Path, dataset: Dataset) -> Path | None:
    """Where the result of the test is to be written; None if it is there."""
    if not runs.is_complete(out):
        return out / runs.TESTS / dataset.name
    folder, is_there = find_test(out, dataset)
    return None if is_there else folder


def told_of(dataset: Dataset) -> dict[str, Any]:
    """What a data set says of its images, but not of their bytes, to compare: see `differences`."""
    rows = [(s.path, dataset.names_of(s), s.split, s.group) for s in dataset.samples]
    return {"name": dataset.name, "images": len(rows), "digest": files.json_digest(rows)}


def _count_rows(dataset: Dataset, config: TrainConfig) -> tuple[int, int]:
    """Images to train and to validate on; raises DataError where they do not make a training."""
    rows = [SampleRow(s.path, dataset.names_of(s), s.split, s.group) for s in dataset.samples]
    own, val, _ = assign_uses(rows, dataset.found_classes, config, str(dataset.root), dataset.task)
    return len(own), len(val)


def _choose_head(
    head: HeadSpec,
    config: TrainConfig,
    cut: CutPlan,
    dataset: Dataset,
    counts: tuple[int, int],
    views: ViewSpec | None,
    given: Iterable[Option],
) -> HeadChoice:
    """What is trained; raises OptionError where its rows do not fit into memory."""
    count = views.views if views else 1
    features, classes = cut.outline.shape[-1], len(dataset.found_classes)
    choice = choose_head(
        head, config, rows=sum(counts), features=features, classes=classes, views=count, given=given
    )
    require_memory(choice.head, {"train": count * counts[0], "val": counts[1]}, features)
    return choice


def _read_texts(head: HeadSpec, cut: CutSpec, planned: CutPlan, dataset: Dataset) -> str:
    """What is said of the texts that a head starts from; raises OptionError where they cannot be used."""
    if not head.starts_from_text:
        return ""
    from fastcls.training.heads.text import read_texts  # other heads do without it until Keras is there

    return str(read_texts(head, planned.outline, cut.base.weights, dataset.found_classes))


def _build(head: HeadSpec, cut: CutPlan, dataset: Dataset) -> Any:
    """The head on bottlenecks of such a shape; raises OptionError where it does not fit them."""
    if head.is_fitted or head.starts_from_text:
        return None
    import_keras()
    tail = _load_tail(cut) if head.traits.needs_tail else None
    with reproducible_build():  # the one that is trained has the same names as if this one were not there
        return build_head(head, cut.outline.shape, len(dataset.found_classes), tail, task=dataset.task)


def _load_tail(cut: CutPlan) -> Any:
    made = cut.outline
    require_tail(f"{made.base} cut at {made.layer}", made.base, has_tail=made.has_tail)
    with reproducible_build():
        return cut.load_tail()

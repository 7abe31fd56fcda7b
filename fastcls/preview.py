"""What a command would do, as text: nothing is trained, forwarded or written."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastcls.bases.loader import load_base
from fastcls.bases.registry import find_architecture
from fastcls.cache import record
from fastcls.cache.index import locate_views
from fastcls.cache.samples import SampleRow
from fastcls.cache.store import Cache
from fastcls.cutter import bottleneck_model, cut, tail_model
from fastcls.data import sources
from fastcls.data.dataset import Dataset
from fastcls.errors import DataError, OptionError
from fastcls.extraction.planner import Order, Requested, make_plan
from fastcls.inference.classifier import Classifier
from fastcls.pipeline import divide, load_head
from fastcls.runs import require_new
from fastcls.specs import (
    SCHEDULES,
    BaseSpec,
    CutSpec,
    FinetuneSpec,
    HeadSpec,
    LossSpec,
    SplitSpec,
    TrainConfig,
    ViewSpec,
    check_cut,
    check_effect,
    check_labels,
)
from fastcls.tasks import Task
from fastcls.training.finetuner import networks_of, trains_batch_norm
from fastcls.training.head_trainer import load_tail, require_fitting, start_model, start_spec
from fastcls.training.heads.network import build_head
from fastcls.training.rows.selection import select, train_val_places

_SUMMARY_COLUMNS = 80  # what Keras cuts a longer line to where no terminal tells its width


def preview_training(
    cache: Cache, head: HeadSpec | None, config: TrainConfig, out: Path, *, start: Path | None = None
) -> str:
    """What `train_run` would do with the same arguments; raises what that would before it begins."""
    require_new(out)
    record.require_whole(cache.trunk_path)
    earlier = load_head(start) if start else None
    spec = start_spec(head, earlier)
    check_effect(spec, config)
    chosen = select(cache, config)
    require_fitting(spec, config, chosen)
    counts = chosen.train.images, len(chosen.val) if chosen.val else 0
    model = None if spec.is_fitted else start_model(cache, chosen, spec, earlier)
    described = _describe_training(spec, model, config, counts, chosen.task)
    lines = [*described, _describe_files(spec, config, out)]
    return "\n".join(lines)


def preview_run(
    dataset: Dataset,
    spec: CutSpec,
    head: HeadSpec,
    config: TrainConfig,
    out: Path,
    *,
    cache_root: Path,
    splits: SplitSpec | None = None,
    views: ViewSpec | None = None,
    name: str | None = None,
) -> str:
    """What `run` would do with the same arguments, as far as that is known without a forward pass."""
    require_new(out)
    check_effect(head, config)
    check_labels(head, config, dataset.task)
    check_cut(head, spec)
    dataset, config = divide(dataset, splits, config)
    parts = Counter(sample.split for sample in dataset.samples)
    if not parts["val"] and config.val is None:
        raise DataError(f"{dataset.root} has no validation part. Split the data again, or run its source")
    shape, tail, extraction = _preview_extraction(spec, cache_root, Order(dataset, views or ViewSpec(), name))
    classes, task = len(dataset.found_classes), dataset.task
    if head.kind == "tail" and tail is None:
        raise OptionError(
            f"{spec.base.name} cut at {spec.layer} has no tail to train with --pool {spec.pool}"
        )
    own_tail = tail if head.kind == "tail" else None
    model = None if head.is_fitted else build_head(head, shape, classes, own_tail, task=task)
    lines = [
        f"{dataset.root}: {len(dataset.samples)} images of {len(dataset.class_names)} classes; "
        f"train {parts['train']}, val {parts['val']}, test {parts['test']}",
        extraction,
        *_describe_training(head, model, config, (parts["train"], parts["val"]), task),
        _describe_files(head, config, out, f"test/{dataset.name}/"),
    ]
    return "\n".join(lines)


def preview_finetuning(
    dataset: Dataset,
    start: BaseSpec | Path,
    spec: FinetuneSpec,
    config: TrainConfig,
    out: Path,
    *,
    head: HeadSpec | None = None,
) -> str:
    """What `finetune_run` would do with the same arguments; no image is read."""
    require_new(out)
    begun = Classifier.load(start) if isinstance(start, Path) else _without_download(start)
    spec = replace(
        spec, train_batch_norm=trains_batch_norm(start, spec)
    )  # by the weights that were asked for
    _, trainee = networks_of(dataset, begun, spec, config, head)
    rows = [SampleRow(s.path, dataset.names_of(s), s.split, s.group, s.path) for s in dataset.samples]
    own, val = train_val_places([row for row in rows if row.split != "test"], config, str(dataset.root))
    described = _describe_training(HeadSpec(), trainee, config, (len(own), len(val)), dataset.task)
    written = _describe_files(HeadSpec(), config, out).replace("head.keras, ", "")
    return "\n".join([*described, written])


def _preview_extraction(spec: CutSpec, root: Path, order: Order) -> tuple[tuple[int, ...], Any, str]:
    """Shape of a bottleneck, what follows it in the base, and how many images would be forwarded."""
    known = Requested(spec, root).known()
    if known:
        missing = _count_missing(order, order.served_by(known))
        tail = load_tail(known) if known.manifest.tail_digest else None
        return tuple(known.manifest.shape), tail, f"Cache {known.folder}: {missing} images to forward"
    made = cut(load_base(_without_download(spec.base)), spec.layer, pool=spec.pool, dtype=spec.dtype)
    shape = tuple(bottleneck_model(made).outputs[0].shape[1:])
    told = (
        f"{made.base.name} cut at {made.layer}: bottlenecks of {'x'.join(map(str, shape))} {spec.dtype}; no "
        f"cache of it in {root} yet, {len(order.dataset.samples)} images to forward"
    )
    return shape, tail_model(made), told


def _count_missing(order: Order, cache: Cache) -> int:
    """How many readable images lack a view; files whose times tell nothing of their bytes are read."""
    rows = [
        row if row.digest else replace(row, digest=_digest(order.dataset.root / row.path))
        for row in make_plan(order, cache).rows
    ]
    lacking = locate_views(cache.index(), rows, order.views).lacking
    unusable = {"", *(failure.digest for failure in cache.listing.recall().failures)}
    return sum(bool(count) and row.digest not in unusable for row, count in zip(rows, lacking, strict=True))


def _digest(path: Path) -> str:
    """The identity of an image; "" for one that the extraction will list as unreadable."""
    try:
        return sources.digest(path)
    except OSError:
        return ""


def _without_download(spec: BaseSpec) -> BaseSpec:
    """The same base, where its weights would be downloaded with random ones."""
    is_download = find_architecture(spec.name) and spec.weights in (None, "imagenet")
    return replace(spec, weights="random") if is_download else spec


def _describe_training(
    head: HeadSpec, model: Any, config: TrainConfig, counts: tuple[int, int], task: Task
) -> list[str]:
    train, val = counts
    rows = f"Rows: {train} to train on, {val} to validate on"
    if head.is_fitted:
        return [f"Head: {head.kind}, fitted at once", rows]
    lines: list[str] = []
    model.summary(line_length=_SUMMARY_COLUMNS, show_trainable=True, print_fn=lines.append)
    steps = math.ceil(train / config.batch_size)
    return [
        *lines,
        f"Optimizer: {_spell(config.optimizer, 'name', ('momentum', 'weight_decay', 'clip_norm'))}",
        f"Learning rate: {config.learning_rate:g}, "
        f"{_spell(config.schedule, 'kind', ('warmup', *SCHEDULES[config.schedule.kind]))}",
        f"Loss: {config.loss.named(task)}{_spell_loss(config.loss)}",
        f"{rows}; {steps} steps of {config.batch_size} per epoch, at most {config.epochs} epochs",
    ]


def _spell(spec: Any, kind: str, options: tuple[str, ...]) -> str:
    given = [f"{name} {getattr(spec, name):g}" for name in options if getattr(spec, name) not in (None, 0)]
    return ", ".join([getattr(spec, kind), *given])


def _spell_loss(spec: LossSpec) -> str:
    plain = LossSpec()
    names = ("label_smoothing", "l2", "class_weight", "class_weight_multiplier")
    return "".join(
        f", {name.replace('_', ' ')} {getattr(spec, name)}"
        for name in names
        if getattr(spec, name) != getattr(plain, name)
    )


def _describe_files(head: HeadSpec, config: TrainConfig, out: Path, *more: str) -> str:
    optional = {
        "tensorboard/": not head.is_fitted,
        "steps.csv": config.logs.log_steps,
        "confusion/": config.logs.confusion_every,
        "checkpoints/": config.checkpoints.checkpoint_every,
    }
    names = ["classifier.keras", "head.keras", "images.csv", "run.json", "history.csv", "curves.png"]
    written = ", ".join([*names, *(name for name, is_written in optional.items() if is_written), *more])
    return f"Would write to {out}: {written}. Nothing was written"

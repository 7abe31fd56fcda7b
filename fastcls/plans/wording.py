"""The lines of a plan about a training: the model, how it is trained, what is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastcls import graph, runs
from fastcls.bases.opening.rules import constants_of
from fastcls.specs import SCHEDULES, HeadSpec, LossSpec, TrainConfig
from fastcls.tasks import Task
from fastcls.training.loop.checkpoints import has_checkpoint
from fastcls.wording import count_of

_SUMMARY_LAYERS = 12  # of a larger model only counts are told
_NAMED_CONSTANTS = 4  # some transformers have two in each block
_SUMMARY_COLUMNS = 80  # what Keras cuts a longer line to where no terminal tells its width


def describe_training(
    head: HeadSpec, model: Any, config: TrainConfig, counts: tuple[int, int], task: Task
) -> list[str]:
    """What is trained and how.

    Args:
        head: What is trained.
        model: Its network; None for a head that is fitted at once, or starts from texts.
        config: How it is trained.
        counts: Images to train and to validate on.
        task: What is asked of an image.
    """
    train, val = counts
    images = f"Images: {train} for training, {val} for validation"
    if head.traits.is_fixed:
        return [f"Head: {head.kind}, which no image has a part in", f"Images: {val} for validation"]
    if head.is_fitted:
        refit = f"; then refitted on all {train + val}" if head.refits and val else ""
        return [f"Head: {head.kind}, fitted directly (no epochs)", f"{images}{refit}"]
    steps = math.ceil(train / config.batch_size)
    return [
        *(_describe_model(model) if model else [f"Head: {head.kind}, which starts from the texts"]),
        f"Optimizer: {_spell(config.optimizer, 'name', ('momentum', 'weight_decay', 'clip_norm'))}",
        f"Learning rate: {config.learning_rate:g}, "
        f"{_spell(config.schedule, 'kind', ('warmup', *SCHEDULES[config.schedule.kind]))}",
        f"Loss: {config.loss.named(task)}{_spell_loss(config.loss)}",
        f"{images}; {count_of(steps, 'step')} of {config.batch_size} per epoch, at most "
        f"{count_of(config.epochs, 'epoch')}",
    ]


def _describe_model(model: Any) -> list[str]:
    """The layers of a small model; of a larger one, how many there are and which of them are trained."""
    operations = graph.operations(model)
    if len(operations) <= _SUMMARY_LAYERS:
        lines: list[str] = []
        model.summary(line_length=_SUMMARY_COLUMNS, show_trainable=True, print_fn=lines.append)
        return lines
    trained = [operation for operation in operations if getattr(operation, "trainable_weights", ())]
    weights = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return [
        f"Model: {count_of(len(operations), 'layer')}, {count_of(model.count_params(), 'parameter')}",
        f"Trained: {count_of(len(trained), 'layer')} with weights, from {trained[0].name} to "
        f"{trained[-1].name}, {count_of(weights, 'parameter')}",
        *describe_constants(model),
    ]


def describe_constants(model: Any) -> list[str]:
    """What of a transformer is never trained."""
    names = constants_of(model)
    if len(names) > _NAMED_CONSTANTS:
        names = [*names[:_NAMED_CONSTANTS], f"{len(names) - _NAMED_CONSTANTS} others"]
    kept = "Not trained: positions, class tokens and the like, which are constants in"
    return [f"{kept} {', '.join(names)}"] if names else []


def describe_pruning(kernels: Mapping[str, Any], share: float) -> list[str]:
    """What is pruned, and how far."""
    weights = sum(math.prod(kernel.shape) for kernel in kernels.values())
    pruned = f"{count_of(len(kernels), 'kernel')} with {count_of(weights, 'weight')}"
    return [f"Pruning: {pruned}, to {share:.4g} zeros in the first half of the steps"]


def files_of(head: HeadSpec | None, config: TrainConfig, *, has_val: bool) -> tuple[str, ...]:
    """What a training writes into its run folder; names of folders end with a slash.

    Args:
        head: What is trained; None for a whole network.
        config: How it is trained.
        has_val: Whether there is validation.
    """
    is_fitted = head is not None and head.is_fitted
    written = {
        runs.CLASSIFIER: True,
        runs.HEAD: head is not None,
        runs.IMAGES: True,
        runs.RECORD: True,
        runs.HISTORY: True,
        runs.CURVES: has_val or not is_fitted,  # without validation, a head that is fitted has no figures
        "tensorboard/": not is_fitted,
        "steps.csv": config.logs.log_steps,
        "confusion/": config.logs.confusion_every,
        "checkpoints/": config.checkpoints.checkpoint_every,
    }
    return tuple(name for name, is_written in written.items() if is_written)


def describe_files(out: Path, folder: Path, names: tuple[str, ...], *, restart: bool) -> str:
    """What is written, or what is there already.

    Args:
        out: The run folder.
        folder: Where it is made: see `runs.examine`.
        names: What is written.
        restart: Whether what is in `folder` is given up.
    """
    if folder == out:
        written = f"Would write to it: {', '.join(names)}. " if names else ""
        return f"{out} is already complete: nothing is trained again. {written}Nothing was written"
    begun = ""
    if runs.is_complete(folder) or has_checkpoint(folder):
        begun = f"Would {'discard' if restart else 'resume from'} {folder}. "
    return f"{begun}Would write to {out}: {', '.join(names)}. Nothing was written"


def _spell(spec: Any, kind: str, options: tuple[str, ...]) -> str:
    given = [f"{name} {getattr(spec, name):g}" for name in options if getattr(spec, name) not in (None, 0)]
    return ", ".join([getattr(spec, kind), *given])


def _spell_loss(spec: LossSpec) -> str:
    plain = LossSpec()
    names = ("label_smoothing", "l2", "class_weight", "class_weight_multiplier")
    return "".join(
        f", {name.replace('_', ' ')} {getattr(spec, name)}"
        for name in names
        if getattr(spec, name) not in (getattr(plain, name), 0)
    )

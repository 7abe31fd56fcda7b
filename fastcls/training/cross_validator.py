"""Cross-validate a head on the training and validation images of a cache: any kind of head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fastcls.backend import import_keras
from fastcls.cache.samples import SampleTable
from fastcls.data.splitter import assign_splits
from fastcls.errors import DataError, OptionError
from fastcls.specs import FoldSpec, SplitSpec
from fastcls.tasks import Task
from fastcls.training.head_trainer import HeadTraining, start_model, train_prepared
from fastcls.training.heads.fitting import features
from fastcls.training.heads.folds import FOLDS
from fastcls.training.heads.links import LINKS
from fastcls.training.loop.compile import VAL_BATCH
from fastcls.training.loop.validation import predictor
from fastcls.training.out_of_fold import OutOfFold, deal_repeatedly, out_of_fold, require_separable
from fastcls.training.rows.cached import Feeder, require_memory_of
from fastcls.training.rows.selection import LabeledRows, Selection, join, unit_numbers
from fastcls.wording import count_of

# Of the images of a head that is trained in epochs, where nothing else is asked for.
_VAL = 0.2


@dataclass(frozen=True, eq=False)
class Folding:
    """A cross-validation that is checked, and of which nothing is done yet.

    Attributes:
        training: The head, and what it is trained on.
        spec: What is asked for.
        samples: The images: those to train on, then those to validate on.
        labels: Of them.
        units: (N,) a number per image; those of the same number stay together.
    """

    training: HeadTraining
    spec: FoldSpec
    samples: SampleTable
    labels: np.ndarray
    units: np.ndarray

    @property
    def task(self) -> Task:
        """What is asked of an image."""
        return self.training.chosen.task

    @property
    def folds(self) -> int:
        """How many folds are asked for."""
        return self.spec.folds or FOLDS

    def __str__(self) -> str:
        """What a plan says of it."""
        repeats = self.spec.repeats
        times = f", {repeats} times" if repeats > 1 else ""
        return f"Cross-validation: {self.folds} folds of {count_of(len(self.samples), 'image')}{times}"

    def deal(self) -> np.ndarray:
        """The fold of each image in each repeat, (R, N)."""
        targets = LINKS[self.task].targets(self.labels, len(self.training.chosen.class_names))
        seed, repeats = self.training.config.seed, self.spec.repeats
        return deal_repeatedly(targets, self.units, folds=self.folds, repeats=repeats, seed=seed)


def prepare_folds(training: HeadTraining, spec: FoldSpec) -> Folding:
    """Check what can be checked before the first fold.

    Raises:
        DataError: There are fewer images than folds that may be apart.
        OptionError: The head has several views of an image to be trained in epochs on, or a group is found
            nowhere.
    """
    chosen = training.chosen
    if training.spec.traits.is_fixed:
        raise OptionError(
            f"--folds leaves out images to train on; --head {training.spec.kind} trains on none. Remove it"
        )
    if training.spec.is_fitted:  # each fold has a copy of most
        rows = 2 * (len(chosen.train) + len(chosen.val or ()))
        what, width = f"--folds with --head {training.spec.kind}", training.cache.manifest.shape[-1]
        require_memory_of(
            rows, width, what, "Leave out --folds, or add --head linear, whose folds are streamed"
        )
    own, val = (SampleTable.of(chosen.images[use]) for use in ("train", "val"))
    samples = SampleTable.of([*own, *val])
    labels = np.concatenate([chosen.train.labels[:: chosen.train.views], *_labels(chosen.val)])
    groups = spec.groups(samples.paths, samples.groups)
    units = unit_numbers(samples.digests.tolist(), groups)
    folding = Folding(training, spec, samples, labels, units)
    targets = LINKS[folding.task].targets(labels, len(chosen.class_names))
    require_separable(units, targets, chosen.class_names, folding.folds)
    if not training.spec.is_fitted and chosen.train.views > 1:
        raise OptionError(
            f"--folds takes one view of each image for a head that is trained in epochs, as "
            f"{training.spec.kind} is. Received: {chosen.train.views} views. Add --views 1, or choose --head "
            "logreg"
        )
    return folding


def validate_folds(folding: Folding, *, progress: bool = False) -> OutOfFold:
    """Predict each image by a head that was fitted, or trained, on the other folds.

    A head that is trained in epochs sets a fifth of these images aside (or `TrainConfig.val` of them), to
    choose its epoch by.
    """
    training = folding.training
    if not training.spec.is_fitted:
        return _train_each(folding, progress=progress)
    chosen = training.chosen
    views = chosen.train.views
    train, val = features(chosen.train), [features(part) for part in (chosen.val,) if part]
    further = np.flatnonzero(np.arange(len(train)) % views)
    return out_of_fold(
        np.concatenate([train[::views], *val]),
        folding.labels,
        folding.task,
        len(chosen.class_names),
        folds=folding.folds,
        repeats=folding.spec.repeats,
        groups=folding.units,
        seed=training.config.seed,
        spec=training.spec,
        views=(train[further], further // views) if views > 1 else None,
        progress=progress,
    )


def _labels(part: LabeledRows | None) -> Iterator[np.ndarray]:
    if part:
        yield part.labels


def _train_each(folding: Folding, *, progress: bool) -> OutOfFold:
    dealt = folding.deal()
    output = np.empty((*dealt.shape, len(folding.training.chosen.class_names)), np.float32)
    for repeat, fold in enumerate(dealt):
        for number in range(fold.max() + 1):
            held = np.flatnonzero(fold == number)
            output[repeat, held] = _train_on(folding, np.flatnonzero(fold != number), held, progress=progress)
    return OutOfFold(output, dealt)


def _train_on(folding: Folding, own: np.ndarray, held: np.ndarray, *, progress: bool) -> np.ndarray:
    """The probabilities (n, C) of images by a head that was trained on others."""
    training = folding.training
    chosen = _choose(folding, own)
    import_keras().utils.set_random_seed(training.config.seed)
    model = None if training.texts else start_model(training.cache, chosen, training.spec, None)
    config = replace(training.config, threshold=None)
    trained = train_prepared(replace(training, chosen=chosen, model=model, config=config), progress=progress)
    _, probabilities = predictor(trained.model, Feeder(_take(folding, held), VAL_BATCH, None))()
    return probabilities


def _choose(folding: Folding, places: np.ndarray) -> Selection:
    """What is trained on, and what the epoch is chosen by, of some of the images."""
    training, samples = folding.training, folding.samples.take(places)
    fraction = _VAL if training.config.val is None else training.config.val
    sides = np.full(len(places), "train")
    if fraction:
        spec = SplitSpec(val=fraction, test=0.0, seed=training.config.seed)
        groups = folding.units[places].astype(str).tolist()
        digests = samples.digests.astype("U32").tolist()
        sides = np.array(assign_splits(digests, samples.labels, spec, groups=groups, allow_small=True))
    own, val = places[sides == "train"], places[sides == "val"]
    counts = folding.task.count(folding.labels[own], len(training.chosen.class_names))
    if not counts.all():
        absent = training.chosen.class_names[int(np.flatnonzero(counts == 0)[0])]
        raise DataError(
            f"Class {absent} has too few images that may be apart: a fold leaves none to train on. Use fewer "
            "--folds, add images, or choose --head logreg"
        )
    val_rows = _take(folding, val) if len(val) else None
    return replace(training.chosen, train=_take(folding, own), val=val_rows)


def _take(folding: Folding, places: np.ndarray) -> LabeledRows:
    """The rows of some of the images, one of each."""
    chosen = folding.training.chosen
    joined = join([part for part in (chosen.train, chosen.val) if part])
    return LabeledRows(joined.rows.take(places), folding.labels[places], 1, folding.task)

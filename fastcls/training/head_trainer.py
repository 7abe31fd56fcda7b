"""Train a head from a cache: no image, no trunk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcls.backend import import_keras, reproducible_build
from fastcls.cache import checked_files
from fastcls.cache.store import Cache
from fastcls.errors import OptionError
from fastcls.files import PathLike, as_path
from fastcls.specs import (
    HeadSpec,
    TrainConfig,
    ViewSpec,
    check_effect,
    check_labels,
    check_type,
    choose_head,
    further_head,
)
from fastcls.specs.option import Option
from fastcls.specs.options import as_spec
from fastcls.tasks import ONE_LABEL, Task
from fastcls.training.familiarity import Familiarity, fit_familiarity
from fastcls.training.heads.fitting import fit_head, require_memory
from fastcls.training.heads.network import build_head
from fastcls.training.identity import head_identity
from fastcls.training.loop.checkpoints import Checkpoints
from fastcls.training.loop.compile import VAL_BATCH, TrainingData, compile_and_fit
from fastcls.training.loop.objectives import OBJECTIVES
from fastcls.training.loop.snapshots import Row
from fastcls.training.rows.cached import Feeder
from fastcls.training.rows.selection import Selection, select
from fastcls.used_images import REFIT, TRAIN, UNKNOWN, VAL, UsedImages
from fastcls.wording import count_of, told_apart

if TYPE_CHECKING:
    from fastcls.training.heads.text import TextStart


@dataclass(frozen=True)
class TrainedHead:
    """A head and how it came about.

    Attributes:
        model: Keras model, bottleneck (B, ...) float32 -> probabilities (B, C), with the weights of the
            best epoch.
        spec: What it is made of.
        config: How it was trained last, with the number of views.
        class_names: Its C classes.
        history: One dict per epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, learning_rate
            (of its first step), seconds; the val ones are absent without validation. With several labels
            per image, val_auroc replaces the accuracies. Of a fitted head one dict per candidate, as
            `FittedHead` has them.
        best: The one of the head that was kept.
        train_count: Images trained on.
        val_count: Images validated on.
        thresholds: With several labels per image, the probability that each class must reach to be
            predicted; None with one label. As all figures, they are of the head before validation images
            were trained on too.
        task: What is asked of an image.
        used: The images that had a part in it.
        views: The views of each image that it was trained on.
        familiarity: What these are like; None for a tail, and where they are too few.
    """

    model: Any
    spec: HeadSpec
    config: TrainConfig
    class_names: tuple[str, ...]
    history: tuple[dict[str, float], ...]
    best: dict[str, float]
    train_count: int
    val_count: int
    thresholds: tuple[float, ...] | None = None
    task: Task = ONE_LABEL
    used: UsedImages = field(default=UNKNOWN, compare=False)
    views: ViewSpec = field(default_factory=ViewSpec)
    familiarity: Familiarity | None = field(default=None, compare=False)

    @property
    def refit_count(self) -> int:
        """Images that the model was fitted to in the end; 0 where those to validate on are not among them."""
        return self.train_count + self.val_count if self.spec.refits and self.val_count else 0

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {value:.6g}" for name, value in self.best.items())
        return f"<TrainedHead {self.spec.kind}: {count_of(len(self.class_names), 'class')}, {best}>"


@dataclass(frozen=True)
class HeadTraining:
    """A training of a head before its first step: all is checked, and what decides the result is known.

    Attributes:
        cache: The bottlenecks.
        chosen: Rows and labels.
        spec: What is trained.
        config: How it is trained, with the number of views.
        model: The head; None for one that is fitted at once, or starts from texts.
        identity: What decides the result, JSON-able.
        used: The images that have a part in it, with those of the head to go on from.
        why: Why it is of this kind: see `HeadChoice`.
        texts: What it is made of, or starts from; None for other heads.
    """

    cache: Cache
    chosen: Selection
    spec: HeadSpec
    config: TrainConfig
    model: Any
    identity: dict[str, Any]
    used: UsedImages
    why: str = ""
    texts: TextStart | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """What a user may want to know of it before the first step."""
        lines = (self.chosen.corrected, self.why, str(self.texts or ""))
        return tuple(filter(None, lines))

    @property
    def counts(self) -> dict[str, int]:
        """Images to train and to validate on."""
        chosen = self.chosen
        train = 0 if self.spec.traits.is_fixed else chosen.train.images
        return {"train_count": train, "val_count": len(chosen.val) if chosen.val else 0}


def train_head(
    cache: Cache | PathLike,
    head: HeadSpec | str | None = None,
    config: TrainConfig | None = None,
    *,
    start: TrainedHead | None = None,
    corrections: PathLike | None = None,
    folder: PathLike | None = None,
    progress: bool = False,
) -> TrainedHead:
    """Train a head and keep the epoch of the best validation, or fit one.

    On a CPU the same seed gives the same head. Sets the global random seeds of Python, NumPy and
    TensorFlow.

    Args:
        cache: The bottlenecks, or the path of the cache.
        head: What to train, or the name of its kind ("knn"); by default logistic regression, or a softmax
            layer trained in epochs where `config` has options for that or the data are large (`auto`).
        config: How to train it.
        start: A trained head to go on from, with a fresh optimizer; `head` must be None then.
        corrections: The issues.csv of an audit, with decisions in its column action.
        folder: Where logs and checkpoints go while it runs; a training that was interrupted there goes on.
        progress: Show a bar on stderr.

    Raises:
        CacheError: The cache is partial, stale, damaged, or has no validation part.
        DataError: The corrections cannot be read.
        OptionError: The head does not fit, an option has no effect on it, the loss becomes NaN before
            there is an epoch to keep, or another training was interrupted in `folder`.
    """
    place = None if folder is None else as_path(folder, "folder")
    spec = None if head is None else as_spec(HeadSpec, head, "head", named=True)
    config = as_spec(TrainConfig, config, "config")
    if start is not None:
        check_type("start", start, TrainedHead)
    corrected = None if corrections is None else as_path(corrections, "corrections")
    training = prepare_training(Cache.of(cache), spec, config, start=start, corrections=corrected)
    return train_prepared(training, place, progress=progress)


def prepare_training(
    cache: Cache,
    head: HeadSpec | None,
    config: TrainConfig | None,
    *,
    start: TrainedHead | None = None,
    corrections: Path | None = None,
    given: Iterable[Option] = (),
) -> HeadTraining:
    """Do all of `train_head` that comes before the first step; see `choose_head` for `given`."""
    config = config or TrainConfig()
    spec = start_spec(head, start)
    check_effect(spec, config)
    chosen = select(cache, config, corrections)
    config = replace(config, views=chosen.train.views)
    check_labels(spec, config, chosen.task)
    rows = {"train": len(chosen.train), "val": len(chosen.val or ())}
    features, classes = cache.manifest.shape[-1], len(chosen.class_names)
    images, views = chosen.train.images + rows["val"], chosen.train.views
    choice = choose_head(
        spec, config, rows=images, features=features, classes=classes, views=views, given=given
    )
    spec, config = choice.head, choice.config
    require_memory(spec, rows, features)
    texts = _read_texts(cache, spec, chosen.class_names) if spec.starts_from_text and not start else None
    spec = replace(spec, prompts=texts.given) if texts else spec
    model = None
    if not spec.is_fitted:  # nothing else is drawn, nor needs Keras before it is there
        import_keras().utils.set_random_seed(config.seed)
        model = None if texts else start_model(cache, chosen, spec, start)
    identity = head_identity(cache, chosen, model, spec, config, texts.prompts if texts else ())
    own = {
        TRAIN: () if spec.traits.is_fixed else chosen.images["train"],
        REFIT if spec.refits else VAL: chosen.images["val"],
    }
    earlier = start.used if start else UsedImages()
    earlier.warn_of([row.digest for row in chosen.images["val"]])
    used = earlier.go_on(own)
    return HeadTraining(cache, chosen, spec, config, model, identity, used, choice.why, texts)


def _read_texts(cache: Cache, spec: HeadSpec, class_names: Sequence[str]) -> TextStart:
    from fastcls.extraction.built import Outline  # other heads do without these until Keras is there
    from fastcls.extraction.fingerprint import require_same_base
    from fastcls.training.heads.text import read_texts

    texts = read_texts(spec, Outline.of(cache.manifest, 0), cache.manifest.weights, class_names)
    require_same_base(cache)
    return texts


def train_prepared(asked: HeadTraining, folder: Path | None = None, *, progress: bool = False) -> TrainedHead:
    """Do all of `train_head` from the first step on."""
    chosen, spec, config, model = asked.chosen, asked.spec, asked.config, asked.model
    if spec.is_fitted:
        more = {"texts": asked.texts} if asked.texts else {}
        fitted = fit_head(spec, chosen.train, chosen.val, len(chosen.class_names), progress=progress, **more)
        model, history, best = fitted.model, fitted.history, fitted.best
        judged = model if fitted.before_refit is None else fitted.before_refit
    else:
        model = asked.texts.head(chosen.train) if asked.texts else model
        about = {"class_names": chosen.class_names, "task": chosen.task.name, **asked.counts}
        checkpoints = Checkpoints(folder, config.checkpoints, asked.identity, about, chosen.task.monitor)
        history, best = _train(model, chosen, config, checkpoints, progress)
        judged = model
    return TrainedHead(
        model,
        spec,
        config,
        chosen.class_names,
        tuple(history),
        best,
        **asked.counts,
        thresholds=_thresholds(judged, chosen, config),
        task=chosen.task,
        used=asked.used,
        views=chosen.views,
        familiarity=None if spec.traits.needs_tail else fit_familiarity(chosen),
    )


def _thresholds(model: Any, chosen: Selection, config: TrainConfig) -> tuple[float, ...] | None:
    def read_val() -> Feeder | None:
        return Feeder(chosen.val, VAL_BATCH, None) if chosen.val else None

    find_thresholds = OBJECTIVES[chosen.task].find_thresholds
    return find_thresholds(model, read_val, config.threshold, chosen.class_names)


def start_spec(head: HeadSpec | None, start: TrainedHead | None) -> HeadSpec:
    """What is trained: a head of its own, or what becomes of the one to go on from.

    Raises:
        OptionError: Both are given, or the one to go on from has nothing to train.
    """
    if start is None:
        return head or HeadSpec()
    if head is not None:
        raise OptionError(
            "A head that is trained further keeps its kind and layers. Remove the other head, or --from"
        )
    return further_head(start.spec)


def start_model(cache: Cache, chosen: Selection, spec: HeadSpec, start: TrainedHead | None) -> Any:
    """The head before the first step: a new one, or the one to go on from.

    Raises:
        OptionError: It does not fit the cache.
    """
    shape = tuple(cache.manifest.shape)
    if start is None:
        tail = load_tail(cache) if spec.traits.needs_tail else None
        return build_head(spec, shape, len(chosen.class_names), tail, task=chosen.task)
    takes = tuple(start.model.inputs[0].shape[1:])
    if takes != shape:
        raise OptionError(f"The head to start from takes bottlenecks of {takes}, the cache holds {shape}")
    if start.task is not chosen.task:
        raise OptionError(
            f"The head to start from predicts {start.task} per image, the cache has {chosen.task}. Train a "
            "new head, without --from"
        )
    if start.class_names != chosen.class_names:
        raise OptionError(
            "The head to start from has the classes "
            f"{told_apart(start.class_names, chosen.class_names, 'the cache')}"
        )
    return start.model


def load_tail(cache: Cache) -> Any:
    """What follows the bottlenecks of a cache in their base, as a Keras model.

    Raises:
        OptionError: There is nothing.
        CacheError: It is damaged.
    """
    import_keras()
    manifest = cache.manifest
    require_tail(
        f"Cache {cache.folder}, cut at {manifest.layer},", manifest.base, has_tail=bool(manifest.tail_digest)
    )
    with reproducible_build():  # what is random in the new layers does not depend on the old
        return checked_files.load_model(cache.tail_path)


def require_tail(source: str, base: str, *, has_tail: bool) -> None:
    """Raise OptionError where nothing that can be trained follows the bottlenecks.

    Args:
        source: What a message calls them.
        base: Name of their base.
        has_tail: Whether something follows.
    """
    if not has_tail:
        raise OptionError(
            f"{source} has no tail to train: no layers follow, or the maps were pooled. Extract with --cut "
            f"at an earlier layer and --pool none: `fastcls layers {base}` lists the layers"
        )


def _train(
    model: Any, chosen: Selection, config: TrainConfig, checkpoints: Checkpoints, progress: bool
) -> tuple[list[Row], Row]:
    import keras

    balanced = config.sampling == "balanced"
    train = Feeder(chosen.train, config.batch_size, config.seed, balanced=balanced)
    val = Feeder(chosen.val, max(config.batch_size, VAL_BATCH), None) if chosen.val else None
    # Compiled apart: a head is kept and saved without its optimizer.
    trainee = keras.Model(model.inputs[0], model.outputs[0])
    data = TrainingData(train, val, chosen.train.labels, chosen.train.images, chosen.class_names)
    return compile_and_fit(trainee, data, config, checkpoints, progress=progress)

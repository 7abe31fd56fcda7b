"""Planted bugs are caught, the noise of right conversions is not."""

import dataclasses

import exports_support as support
import numpy as np
import pytest

from fastcls.errors import ExportError
from fastcls.exporting.checks import Reference, judge
from fastcls.tasks import ONE_LABEL, SEVERAL_LABELS

IMAGES = support.some_images(32)
COUNTS = (4, 32)


def network(normalization="torch", activation="softmax", change=lambda weights: weights):
    """What runs a tiny model on images."""
    model = support.tiny_model(activation, normalization)
    model.set_weights([change(weights) for weights in model.get_weights()])
    return lambda images: np.asarray(model(np.asarray(images), training=False))


def softmax(values):
    powers = np.exp(values)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module", params=[ONE_LABEL, SEVERAL_LABELS], ids=str)
def task(request):
    return request.param


@pytest.fixture(scope="module")
def networks(task):
    """By name: as it is, and with other statistics of pixels or without."""
    kinds = {"right": "torch", "statistics": "tf", "unscaled": "none"}
    return {name: network(kind, task.activation) for name, kind in kinds.items()}


@pytest.fixture
def reference(networks, task):
    thresholds = task.default_thresholds(3)
    described = {**support.DESCRIBED, "task": task.name, "thresholds": thresholds}
    return Reference(IMAGES, networks["right"](IMAGES), described, task)


def few(reference, count):
    """The same with fewer images."""
    kept = slice(0, count)
    return dataclasses.replace(
        reference, images=reference.images[kept], probabilities=reference.probabilities[kept]
    )


def told(reference, precision="float32", **changes):
    """What travels with an export."""
    thresholds = reference.described["thresholds"]
    own = {"thresholds": list(thresholds) if thresholds else None, "export": {"precision": precision}}
    return {**reference.described, **own, **changes}


BUGS = {
    "BGR in place of RGB": lambda run, images: run["right"](images[..., ::-1]),
    "the scale of pixels is missing": lambda run, images: run["unscaled"](images),
    "height and width are transposed": lambda run, images: run["right"](images.transpose(0, 2, 1, 3)),
    "other statistics of pixels": lambda run, images: run["statistics"](images),
    "two classes are swapped": lambda run, images: run["right"](images)[:, [1, 0, 2]],
    "classes are rotated": lambda run, images: np.roll(run["right"](images), 1, axis=1),
    "shifted by a pixel": lambda run, images: run["right"](np.roll(images, 1, axis=2)),
    "mirrored": lambda run, images: run["right"](images[:, :, ::-1]),
    "softmax twice": lambda run, images: softmax(run["right"](images)),
    "the same for each image": lambda run, images: np.repeat(run["right"](images[:1]), len(images), 0),
    "no numbers": lambda run, images: run["right"](images) * np.nan,
}


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("count", COUNTS)
def test_planted_bug_is_caught(networks, reference, bug, count):
    known = few(reference, count)
    wrong = BUGS[bug](networks, known.images)
    checked = judge(wrong, None, told(known), known)
    assert checked.status == "failed"
    with pytest.raises(ExportError, match=r"max difference of probabilities in float32 is .*at most 0\.0001"):
        checked.require("onnx-float32")
    # In other precisions, the same path has the same bug.
    for precision in ("float16", "int8"):
        assert judge(known.probabilities, wrong, told(known, precision), known).status == "failed"


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug not in ("softmax twice", "mirrored")])
def test_bug_in_float16_alone_is_caught(networks, reference, bug):
    wrong = BUGS[bug](networks, IMAGES)
    assert judge(wrong, reference.probabilities, told(reference, "float16"), reference).failed


def test_noise_of_right_conversions_is_none(networks, reference, task):
    random = np.random.default_rng(0)
    right = reference.probabilities
    rounded = right + random.uniform(-1, 1, right.shape).astype(np.float32) * 5e-6
    half = network(activation=task.activation, change=lambda w: w.astype(np.float16).astype(np.float32))(
        IMAGES
    )
    coarse = network(activation=task.activation, change=eight_bits)(IMAGES)
    assert 1e-6 < abs(half - right).max() < abs(coarse - right).max()
    for precision, found, status in (
        ("float32", rounded, "verified"),
        ("float16", half, "verified"),
        ("int8", coarse, "float32 path verified"),
    ):
        path = None if precision == "float32" else rounded
        checked = judge(found, path, told(reference, precision), reference)
        assert (checked.status, checked.failed) == (status, ())
        checked.require("it")


def eight_bits(weights):
    step = np.abs(weights).max() / 127
    return np.round(weights / step) * step


def test_figures_are_those_of_their_formulas(reference):
    found = np.random.default_rng(1).dirichlet((1, 1, 1), len(IMAGES)).astype(np.float32)
    p, q = reference.probabilities.astype(float), found.astype(float)
    figures = judge(found, None, told(reference), reference).figures
    assert figures.max_difference == pytest.approx(max(abs(p - q).flat))
    assert figures.spread == pytest.approx(np.sqrt(p.var(axis=0).mean()))
    assert figures.relative_error == pytest.approx(np.sqrt(((p - q) ** 2).mean()) / figures.spread)
    same = (p >= 0.5) == (q >= 0.5) if reference.thresholds else p.argmax(axis=1) == q.argmax(axis=1)
    assert (figures.agreeing, figures.decisions) == (same.sum(), same.size)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", list(support.NAMES[::-1])),
        ("thresholds", [0.5, 0.5, 0.4]),
        ("pixels", {**support.DESCRIBED["pixels"], "resize": "linear"}),
        ("task", "no label"),
    ],
)
def test_what_travels_with_an_export_is_that_of_the_run(reference, name, value):
    checked = judge(reference.probabilities, None, told(reference, **{name: value}), reference)
    with pytest.raises(ExportError, match=f"number of embedded {name} .*first: .* expected is at most 0"):
        checked.require("it")


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_outputs_that_hardly_vary_are_never_verified(reference, precision):
    flat = np.full_like(reference.probabilities, 1 / 3) + reference.probabilities * 1e-4
    known = dataclasses.replace(reference, probabilities=flat)
    checked = judge(np.full_like(flat, 1 / 3), flat, told(known, precision), known)
    assert not checked.failed
    assert checked.status == checked.told.partition(":")[0] == "no power"
    assert judge(flat + 2e-4, flat + 2e-4, told(known, precision), known).status == "failed"


def test_bounds_of_lower_precisions(reference):
    """Blends of the right probabilities and wrong ones, from nothing to all of them."""
    right, wrong = reference.probabilities, reference.probabilities[::-1]
    seen = set()
    for share in np.linspace(0, 1, 41):
        found = right + np.float32(share) * (wrong - right)
        half, low = (
            judge(found, right, told(reference, precision), reference) for precision in ("float16", "int8")
        )
        figures = half.figures
        within = figures.relative_error <= 0.1 and figures.max_difference <= 0.1
        agrees = figures.agreeing / figures.decisions >= 0.85
        assert (not half.failed) == within
        assert (not low.failed) == (figures.relative_error <= 0.5 and agrees)
        seen.add((half.status, low.status))
    assert seen == {
        ("verified", "float32 path verified"),
        ("failed", "float32 path verified"),
        ("failed", "failed"),
    }


def test_accuracy_is_told_before_and_after(reference, task):
    labels = reference.decide(reference.probabilities).astype(np.int64)
    labels = labels[:, 0] if labels.shape[1] == 1 else labels
    known = dataclasses.replace(reference, labels=labels)
    found = reference.probabilities[:, ::-1]
    checked = judge(found, found, told(known, "int8"), known)
    before, after = checked.accuracy
    same = reference.decide(found) == reference.decide(reference.probabilities)
    assert (before, after) == (1.0, pytest.approx(same.mean()))
    assert checked.to_dict()["accuracy"] == {"before": before, "after": after}


def test_head_on_the_cache_bounds_float32_and_is_reported_of_others(reference):
    off = dataclasses.replace(reference, cached=reference.probabilities[::-1])
    for types, fails in ((("float32", "float32"), True), (("float32", "float16"), False), (("int8",), False)):
        known = dataclasses.replace(off, cached_types=types)
        checked = judge(reference.probabilities, None, told(known), known)
        assert bool(checked.failed) is fails
        assert checked.to_dict()["cache"]["agreeing"] < len(IMAGES)


def test_votes_are_checked_by_the_bottleneck_before_them():
    random = np.random.default_rng(2)
    bottlenecks = random.standard_normal((32, 8)).astype(np.float32)
    votes = np.eye(3, dtype=np.float32)[random.integers(0, 3, 32)]
    reference = Reference(IMAGES, votes, support.DESCRIBED, ONE_LABEL, bottlenecks)
    flipped = votes.copy()
    flipped[0] = votes[0, [1, 2, 0]]  # a tie that rounding decides

    def status(rows, beside):
        path = np.concatenate([rows, beside], axis=1)
        return judge(votes, path, told(reference), reference).status

    assert status(votes, bottlenecks) == status(flipped, bottlenecks + 1e-6) == "verified"
    assert status(votes, bottlenecks + 1e-3) == status(votes, bottlenecks[:, :0]) == "failed"
    assert status(votes[:, [1, 0, 2]], bottlenecks) == "failed"

"""What is trained on top of the bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastcls.errors import OptionError
from fastcls.specs.checks import check_choice

# What earlier runs call the optimizer of a head that is fitted by logistic regression.
LBFGS = "lbfgs"
# Those that fastcls makes; anything else is a user's function.
HEADS = ("linear", "tail", "logreg", "prototype", "knn")
# Fitted at once, without a gradient.
FITTED_HEADS = ("logreg", "prototype", "knn")
NORMS = ("none", "batch", "l2")


@dataclass(frozen=True)
class HeadSpec:
    """The trainable part on top of the bottleneck.

    Attributes:
        kind: "linear", a softmax layer (sigmoid, for several labels per image) with `layers` before it;
            "tail", what follows in the base, with its weights, before that; "logreg", a softmax layer
            fitted by logistic regression; "prototype", the nearest class mean; "knn", the nearest training
            rows; or "file.py:function", which takes the bottleneck tensor and the number of classes and
            returns the tensor of class probabilities.
        layers: Hidden layers before the softmax layer of a linear head or a tail: an int is a ReLU dense
            layer of that many units, a float below 1 a dropout of that rate.
        bottleneck_norm: What a linear head (or, but for "batch", a logreg one) does with the bottleneck
            first: "batch" for batch normalization, "l2" for length 1; a tail does it with its features.
        train_batch_norm: Train the batch normalization of a tail, with the statistics of each batch. Else it
            stays as it is in inference.
    """

    kind: str = "linear"
    layers: tuple[int | float, ...] = ()
    bottleneck_norm: str = "none"
    train_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.kind not in HEADS and ":" not in self.kind:
            raise OptionError(
                f"Unknown head: {self.kind!r}. Choose one of: {', '.join(HEADS)}; or name a function as "
                "file.py:function"
            )
        check_choice("bottleneck_norm", self.bottleneck_norm, NORMS)
        for value in self.layers:
            dropout = isinstance(value, float) and 0 < value < 1
            dense = isinstance(value, int) and value >= 1
            if not dropout and not dense:
                raise OptionError(
                    "A head layer is a number of units (1 or more) or a dropout rate between 0 and 1. "
                    f"Received: {value}. Example: 256,0.4"
                )
        self._refuse_without_effect()

    @property
    def is_fitted(self) -> bool:
        """Whether it is fitted at once, not trained by gradients."""
        return self.kind in FITTED_HEADS

    @property
    def is_function(self) -> bool:
        """Whether it is a user's function."""
        return self.kind not in HEADS

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadSpec:
        """From what `dataclasses.asdict` made of one, be it of an earlier version."""
        known = dict(values)
        if "kind" not in known:
            known["kind"] = known.pop("function") or "linear"
        return cls(**{**known, "layers": tuple(known["layers"])})

    def _refuse_without_effect(self) -> None:
        if self.layers and self.kind not in ("linear", "tail"):
            raise OptionError(f"The head {self.kind} takes no layers. Leave them out, or use --head linear")
        if self.train_batch_norm and self.kind != "tail":
            raise OptionError(f"No effect on the head {self.kind}: train_batch_norm. Use it with --head tail")
        norms = {"linear": NORMS, "tail": NORMS, "logreg": ("none", "l2")}.get(self.kind, ("none",))
        if self.bottleneck_norm not in norms:
            why = ": it always brings it to length 1" if self.kind in ("prototype", "knn") else ""
            raise OptionError(
                f"The head {self.kind} takes no bottleneck-norm {self.bottleneck_norm}{why}. Leave it "
                "out, or use --head linear"
            )

"""What follows the last feature map of a network: pooling and a classifier."""

from __future__ import annotations

from typing import Any


def add_top(
    features: Any, *, include_top: bool, pooling: str | None, classes: int, classifier_activation: str | None
) -> Any:
    """Add the end of a network, as the models of `keras.applications` have it.

    Args:
        features: Symbolic tensor (B, H, W, C).
        include_top: Average pooling `avg_pool` and the classifier `predictions`; `pooling` has no effect.
        pooling: "avg", "max" or None: what becomes of the feature map without the classifier.
        classes: Number of classes.
        classifier_activation: Activation of the classifier, None for logits.

    Returns:
        Symbolic tensor (B, classes), (B, C) or (B, H, W, C).
    """
    from keras import layers

    pooled = add_pooling(features, "avg" if include_top else pooling)
    if not include_top:
        return pooled
    return layers.Dense(classes, activation=classifier_activation, name="predictions")(pooled)


def add_pooling(features: Any, pooling: str | None) -> Any:
    """Add global pooling, as a layer `avg_pool` or `max_pool`; None leaves the feature map as it is.

    Raises:
        ValueError: The pooling is unknown.
    """
    from keras import layers

    kinds = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    if pooling is None:
        return features
    if pooling not in kinds:
        raise ValueError(f"Expected pooling 'avg', 'max' or None. Received: {pooling!r}")
    return kinds[pooling](name=f"{pooling}_pool")(features)

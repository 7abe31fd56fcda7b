"""What becomes of the positions of a map, or of tokens."""

from __future__ import annotations

from typing import Any

from fastcls import graph


def pooling_of(pool: str, tensor: Any, prefix_tokens: int | None) -> str:
    """What becomes of the positions of a tensor (B, ...); "none" for a vector.

    Args:
        pool: Of `POOLS`.
        tensor: Symbolic.
        prefix_tokens: See `Base`.
    """
    rank = len(tensor.shape) - 1
    if rank == 1:
        return "none"
    return ("cls" if rank == 2 and prefix_tokens else "avg") if pool == "auto" else pool


def pool_positions(features: Any, pool: str, prefix_tokens: int | None = 0) -> Any:
    """Pool over the positions of tokens (B, T, C) or of a map (B, H, W, C).

    Args:
        features: Symbolic.
        pool: Of `POOLS`, but "auto" and "none".
        prefix_tokens: How many tokens are no patches; None for not known, where all count as patches.
    """
    from keras import layers

    if pool == "flatten":
        return layers.Flatten(name="pool")(features)
    if pool == "cls":
        return _class_token(features, "pool")
    patches = layers.Cropping1D((prefix_tokens, 0), name="patches")(features) if prefix_tokens else features
    kind = "Max" if pool == "max" else "Average"
    pooling = getattr(layers, f"Global{kind}Pooling{len(features.shape) - 2}D")
    if pool != "cls+mean":
        return pooling(name="pool")(patches)
    both = [_class_token(features, "class_token"), pooling(name="mean")(patches)]
    return layers.Concatenate(name="pool")(both)


def _class_token(tokens: Any, name: str) -> Any:
    token = tokens[:, 0]
    graph.operation_of(token).name = name
    return token

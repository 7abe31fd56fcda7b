"""Engines run the trunk on a batch: images (B, H, W, 3) uint8 -> bottlenecks (B, ...) float32."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Engine(Protocol):
    """What runs the trunk on a batch."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """Forward (B, H, W, 3) uint8 RGB images to (B, ...) float32 bottlenecks."""

"""How much each machine of a run has done."""

from __future__ import annotations

import logging
from collections import Counter

from fastcls.wording import count_of

logger = logging.getLogger(__name__)


class Throughput:
    """Images and time of each machine."""

    def __init__(self) -> None:
        self._images: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()

    def add(self, host: str, images: int, seconds: float) -> None:
        """Note that a machine has done some images.

        Args:
            host: Its name.
            images: How many.
            seconds: For how long it was busy with them.
        """
        self._images[host] += images
        self._seconds[host] += seconds  # type: ignore[assignment]

    def log(self) -> None:
        """Say what each machine has done."""
        for host, images in sorted(self._images.items()):
            seconds = self._seconds[host]
            rate = f", {images / seconds:.1f} images/s" if seconds else ""
            logger.info("%s: %s%s", host, count_of(images, "image"), rate)

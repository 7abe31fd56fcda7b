"""What lies below URLs, listed once for a while: 16 bytes per object besides its path."""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator

from fastcls import storage
from fastcls.storage import Stat

# As long a listing counts, or as long as it took: one operation uses it several times, later ones do not.
_FRESH_S = 60.0
_lock = threading.Lock()
_known: dict[str, Listing] = {}


class Listing:
    """All objects below a URL.

    Args:
        root: The URL.

    Attributes:
        paths: Relative to the URL, sorted.
    """

    def __init__(self, root: str) -> None:
        started = time.monotonic()
        found = sorted(storage.walk(root))
        self.root = root
        self.paths = [path for path, _ in found]
        self._sizes = array("q", (stat.size for _, stat in found))
        self._stamps = array("q", (stat.stamp for _, stat in found))
        self._until = time.monotonic() + max(_FRESH_S, time.monotonic() - started)

    @property
    def is_fresh(self) -> bool:
        """Whether it still counts: a process may live long."""
        return time.monotonic() < self._until

    def stat(self, path: str) -> Stat | None:
        """State of an object; None if there is none."""
        place = bisect_left(self.paths, path)
        if place == len(self.paths) or self.paths[place] != path:
            return None
        return Stat(self._sizes[place], self._stamps[place])

    def is_folder(self, path: str) -> bool:
        """Whether there are objects below a path."""
        place = bisect_left(self.paths, f"{path}/" if path else "")
        return place < len(self.paths) and self.paths[place].startswith(f"{path}/" if path else "")

    def below(self, folder: str) -> Iterator[str]:
        """The paths of all objects below a folder, relative to it, sorted."""
        prefix = f"{folder}/" if folder else ""
        for place in range(bisect_left(self.paths, prefix), len(self.paths)):
            if not self.paths[place].startswith(prefix):
                return
            yield self.paths[place][len(prefix) :]

    def inside(self, folder: str) -> Iterator[tuple[str, bool]]:
        """Names of what is directly in a folder, and whether each is a folder; all below are passed over."""
        prefix = f"{folder}/" if folder else ""
        place = bisect_left(self.paths, prefix)
        while place < len(self.paths) and self.paths[place].startswith(prefix):
            name, slash, _ = self.paths[place][len(prefix) :].partition("/")
            yield name, bool(slash)
            after = f"{prefix}{name}0" if slash else f"{prefix}{name}\0"  # "0" is next to "/"
            place = bisect_left(self.paths, after, place)


def listing_of(url: str) -> tuple[Listing, str]:
    """The listing that has a URL, made if there is none, and the path of the URL in it.

    Raises:
        StorageError: The store cannot be listed.
    """
    with _lock:
        for root in [root for root, listing in _known.items() if not listing.is_fresh]:
            del _known[root]
        for root, listing in _known.items():
            if url == root or url.startswith(f"{root}/"):
                return listing, url[len(root) :].strip("/")
        made = _known[url] = Listing(url)
        return made, ""


def listed(url: str) -> tuple[Listing, str] | None:
    """The listing that has a URL, and the path in it, if one was made and still counts."""
    for root, listing in [*_known.items()]:
        if url.startswith(f"{root}/") and listing.is_fresh:
            return listing, url[len(root) :].strip("/")
    return None


def forget(url: str = "") -> None:
    """List anew what is at a URL, or below; everything by default."""
    with _lock:
        for root in [
            root for root in _known if f"{root}/".startswith(url) or f"{url}/".startswith(f"{root}/")
        ]:
            del _known[root]

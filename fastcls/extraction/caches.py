"""Which cache serves a cut: found by how the cut was asked for, or by its fingerprint, or made."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastcls.bases.loader import Base, load_base, load_without_download
from fastcls.bases.registry import find_architecture
from fastcls.cache import checked_files, store
from fastcls.cache.store import Cache, Manifest
from fastcls.cutter import Cut, bottleneck_model, cut, tail_model
from fastcls.data.decoder import pixel_rule
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, OptionError
from fastcls.extraction.fingerprint import cut_token, describe
from fastcls.specs import CutSpec, PixelRule

logger = logging.getLogger(__name__)


def caches_of_cuts(cuts: Sequence[CutSpec | Cut], root: Path) -> list[CutCaches]:
    """The caches of several cuts of a base, which is loaded once at most.

    Raises:
        OptionError: The cuts cannot share a forward pass.
    """
    if len(set(cuts)) < len(cuts):
        raise OptionError("The same cut is given twice. Remove one")
    if len({(cut.base, cut.precision) for cut in cuts}) > 1:
        raise OptionError("Cuts that share a forward pass must have the same base and the same precision")
    if len({cut.full_decode for cut in cuts}) > 1:
        raise OptionError("Cuts that share a forward pass must all use full_decode, or none")
    if len(cuts) > 1 and cuts[0].precision == "int8":
        raise OptionError(
            "int8 is calibrated for each cut separately: extract one --cut at a time, or choose another "
            "--precision"
        )
    first = CutCaches(cuts[0], root)
    return [first, *(CutCaches(cut, root, same_base=first) for cut in cuts[1:])]


@dataclass(frozen=True)
class BuiltCut:
    """A cut, and the Keras models on both sides of it.

    Attributes:
        cut: The base, cut.
        model: RGB uint8 image (B, H, W, 3) -> bottleneck (B, ...).
        tail: bottleneck -> features (B, D); None where nothing follows that could be trained.
    """

    cut: Cut
    model: Any
    tail: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a bottleneck."""
        return tuple(self.model.outputs[0].shape[1:])


class CutCaches:
    """The caches that serve a cut, one for each precision.

    Args:
        asked: What to cut, or a base that is cut already.
        root: Folder of caches.
        same_base: The caches of another cut of the same base.

    Attributes:
        precision: As asked for.
        root: Folder of caches.
        is_new: Whether `open` made the cache that it opened last.
    """

    def __init__(self, asked: CutSpec | Cut, root: Path, same_base: CutCaches | None = None) -> None:
        self.precision = asked.precision
        self.root = root
        self._asked, self._same_base = asked, same_base
        self.is_new = False
        self._token = cut_token(asked) if isinstance(asked, CutSpec) else None

    @property
    def pixels(self) -> PixelRule:
        """How the images become pixels; the base is built only where nothing else tells their size.

        Raises:
            OptionError: The base cannot be used.
        """
        told = self.told_pixels
        return told or pixel_rule(self.built.cut.base.size, full_decode=self._asked.full_decode)

    @property
    def told_pixels(self) -> PixelRule | None:
        """`pixels`; None where only the base tells their size."""
        known, base = self.known(), self._asked.base
        named = find_architecture(base.name)
        size = known.manifest.size if known else base.size or (named and (named.side, named.side))
        return pixel_rule(size, full_decode=self._asked.full_decode) if size else None

    def known(self) -> Cache | None:
        """The cache that served this cut before, recognized without TensorFlow."""
        return store.find_cut(self.root, self._token) if self._token else None

    def folder(self, precision: str) -> Path:
        """Where the cache of a precision is, or would be.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        known = self._known_in(precision)
        return known.folder if known else self.root / store.folder_name(self._describe(precision))

    def fingerprint(self, precision: str) -> str | None:
        """That of the cache of a precision; None where only a download of weights would tell."""
        known = self._known_in(precision)
        if known:
            return known.manifest.fingerprint
        return self._describe(precision).fingerprint if self._look[1] else None

    def open(self, precision: str) -> tuple[Cache, Trunk]:
        """The cache of a precision, and its trunk; what is not there, or damaged, is made.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        known, self.is_new = self._known_in(precision), False
        if known and not checked_files.damage(*known.models):
            return known, Trunk(known.trunk_path)
        manifest = self._describe(precision)
        folder = self.root / store.folder_name(manifest)
        self.is_new = not (folder / "manifest.json").exists()
        for saved, name in ((self.built.tail, "tail.keras"), (self.built.model, "trunk.keras")):
            if saved:
                _keep_model(folder / name, saved, manifest.fingerprint)
        cache = _whole_cache(folder, manifest) or Cache.create(self.root, manifest)
        return cache, Trunk(cache.trunk_path, self.built.model)

    def remember(self, cache: Cache) -> None:
        """Note that this cache, and no other, serves the cut."""
        before = self.known()
        if self._token:
            if before and before.folder != cache.folder:
                before.remove_cut(self._token)
            cache.add_cut(self._token)

    def discard(self, cache: Cache) -> None:
        """Remove a cache that `open` made just now and that nobody can fill."""
        if self.is_new and not cache.shards_folder.exists():
            shutil.rmtree(cache.folder)

    @cached_property
    def built(self) -> BuiltCut:
        """The cut, with the weights that were asked for.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        if not isinstance(self._asked, CutSpec):
            return _build(self._asked)
        sketched = self.__dict__.get("sketched")
        if sketched and sketched.cut.base is self._base:
            return sketched
        return _build(_cut(self._asked, self._base))

    @cached_property
    def sketched(self) -> BuiltCut:
        """The cut, with random weights in place of such as would be downloaded.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        if not isinstance(self._asked, CutSpec):
            return self.built
        return _build(_cut(self._asked, self._look[0]))

    @cached_property
    def _base(self) -> Base:
        """The base; the one that was looked at, if that has the weights that were asked for."""
        if self._same_base:
            return self._same_base._base
        if "_look" in self.__dict__ and self._look[1]:
            return self._look[0]
        base = self._asked.base
        return base if isinstance(base, Base) else load_base(base)

    @cached_property
    def _look(self) -> tuple[Base, bool]:
        """The base, without a download, and whether it has the weights that were asked for."""
        if self._same_base:
            return self._same_base._look
        base = self._asked.base
        return (base, True) if isinstance(base, Base) else load_without_download(base)

    @property
    def outline(self) -> BuiltCut:
        """The cut, with whatever weights: what is built already, else `sketched`."""
        return self.__dict__.get("built") or self.sketched

    def _known_in(self, precision: str) -> Cache | None:
        known = self.known()
        return known if known and known.manifest.precision == precision else None

    def _describe(self, precision: str) -> Manifest:
        built = self.built
        return describe(built.cut, built.model, built.tail, self._weights, precision)

    @property
    def _weights(self) -> str:
        given = self._asked.base.weights if isinstance(self._asked, CutSpec) else None
        own = "imagenet" if find_architecture(self.built.cut.base.name) else "own"
        return Path(given).name if given else own  # the digest tells files of one name apart


def _cut(spec: CutSpec, base: Any) -> Cut:
    kept = {name: getattr(spec, name) for name in ("pool", "dtype", "precision", "full_decode")}
    return cut(base, spec.layer, **kept)


def _build(made: Cut) -> BuiltCut:
    return BuiltCut(made, bottleneck_model(made), tail_model(made))


def _whole_cache(folder: Path, manifest: Manifest) -> Cache | None:
    """The cache in a folder; None if there is none, or its manifest is damaged or of another one."""
    with contextlib.suppress(CacheError):
        cache = Cache(folder)
        if cache.manifest.fingerprint == manifest.fingerprint:
            return cache
    if (folder / "manifest.json").exists():
        logger.warning(
            "%s is damaged or of another cache. It will be recreated; no bottlenecks are lost",
            folder / "manifest.json",
        )
    return None


def _keep_model(path: Path, model: Any, fingerprint: str) -> None:
    """Save a model, unless it is there and whole."""
    reason = checked_files.damage(path)
    if not reason:
        return
    if path.exists():
        logger.warning("%s. It will be recreated from the base", reason)
    checked_files.keep(path, model.save, of=fingerprint)

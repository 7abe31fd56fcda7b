"""Which cache serves a cut: found by how the cut was asked for, or by its fingerprint, or made."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastcls.bases.hub import is_preset
from fastcls.bases.loader import Base, load_base, load_without_download
from fastcls.bases.registry import find_architecture
from fastcls.cache import checked_files, mirror, store
from fastcls.cache.manifest import Manifest
from fastcls.cache.store import Cache
from fastcls.cutter import Cut
from fastcls.data.decoder import pixel_rule
from fastcls.engines import engine_class
from fastcls.engines.trunk import Trunk
from fastcls.errors import CacheError, OptionError
from fastcls.extraction.built import BuiltCut, Outline
from fastcls.extraction.engine_choice import Candidate
from fastcls.extraction.fingerprint import cut_token, describe, fingerprint
from fastcls.extraction.kept_trunk import TAIL, TRUNK, KeptTrunk, is_kept, kept_key
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
    if len({(cut.full_decode, cut.resize) for cut in cuts}) > 1:
        raise OptionError("Cuts that share a forward pass must have the same full_decode and the same resize")
    if len(cuts) > 1 and cuts[0].precision == "int8":
        raise OptionError(
            "int8 is calibrated for each cut separately: extract one --cut at a time, or choose another "
            "--precision"
        )
    first = CutCaches(cuts[0], root)
    return [first, *(CutCaches(cut, root, same_base=first) for cut in cuts[1:])]


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
        if told:
            return told
        size = self._found.manifest.size if self._found else self.built.cut.base.size
        return self._rule(size)

    @property
    def told_pixels(self) -> PixelRule | None:
        """`pixels`; None where only the base tells them."""
        known, base = self.known(), self._asked.base
        named = find_architecture(base.name)
        size = known.manifest.size if known else base.size or (named and (named.side, named.side))
        return self._rule(size) if size and not self._crop_is_of_base else None

    def known(self) -> Cache | None:
        """The cache that served this cut before, recognized without TensorFlow."""
        return store.find_cut(self.root, self._token) if self._token else None

    def folder(self, candidate: Candidate) -> Path:
        """Where the cache that an engine fills is, or would be.

        Raises:
            OptionError: The base, layer or weights cannot be used.
            ConversionError: The engine cannot convert the trunk.
        """
        known = self._known_to(candidate)
        return known.folder if known else self.root / store.folder_name(self._describe(candidate))

    def fingerprint(self, candidate: Candidate) -> str | None:
        """That of the cache that an engine would fill.

        Returns:
            None where only a download of weights, or a conversion, would tell.
        """
        known = self.known()
        if known and known.manifest.precision == candidate.precision:
            return known.manifest.fingerprint
        if not self._found and not self._look[1]:
            return None
        return self._describe(candidate).fingerprint if self._kept.is_prepared(candidate) else None

    def open(self, candidate: Candidate) -> tuple[Cache, Trunk]:
        """The cache that an engine fills, and its trunk; what is not there, or damaged, is made.

        Raises:
            OptionError: The base, layer or weights cannot be used.
            ConversionError: The engine cannot convert the trunk.
        """
        known, self.is_new = self._known_to(candidate), False
        if known and not checked_files.damage(*known.models):
            cache = known
        else:
            cache = self._recreate(self._describe(candidate))
        model = self.built.model if "built" in self.__dict__ else None
        return cache, Trunk(cache.trunk_path, model, lambda: self._reference(candidate))

    def prepare(self, candidate: Candidate) -> None:
        """Make what an engine loads, where it depends on nothing of the user and the known cache lacks it.

        Raises:
            ConversionError: The engine cannot convert the trunk.
        """
        known = self._known_to(candidate)
        if is_kept(candidate) and (not known or engine_class(candidate.path).damage(known.trunk_path)):
            self._kept.prepare(candidate)

    def equip(self, candidate: Candidate, cache: Cache) -> None:
        """Put what `prepare` made into a cache that `open` has opened, and what is known of it."""
        if is_kept(candidate) and engine_class(candidate.path).damage(cache.trunk_path):
            self._kept.copy_engine(candidate, cache.trunk_path)
            figures = self._kept.fidelity(candidate)
            if figures and candidate.engine not in cache.manifest.fidelity:
                cache.note_fidelity(candidate.engine, figures)

    def _recreate(self, manifest: Manifest) -> Cache:
        """A cache whose models are whole."""
        folder = self.root / store.folder_name(manifest)
        self.is_new = not (folder / "manifest.json").exists()
        for name in (TAIL, TRUNK):
            if (self._kept.folder / name).exists():
                _keep_model(folder / name, self._kept.folder / name, manifest.fingerprint)
        return _whole_cache(folder, manifest) or Cache.create(self.root, manifest)

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

    def check(self, *, with_weights: bool) -> None:
        """Build the base, unless this machine knows what comes of it.

        Args:
            with_weights: Those that were asked for, even if they must be downloaded.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        if not self._found:
            _ = self.built if with_weights else self.sketched

    @property
    def outline(self) -> Outline:
        """What a plan must know of the cut."""
        if self._found:
            return Outline.of(self._manifest("float32", ()), self._found.trunk_bytes)
        return (self.__dict__.get("built") or self.sketched).outline

    def load_tail(self) -> Any:
        """What follows the cut, as a Keras model; None where there is nothing. Its weights may be random."""
        if self._found:
            path = self._found.folder / TAIL
            return checked_files.load_model(path) if path.exists() else None
        return (self.__dict__.get("built") or self.sketched).tail

    @cached_property
    def built(self) -> BuiltCut:
        """The cut, with the weights that were asked for.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        if not isinstance(self._asked, CutSpec):
            return BuiltCut.of(self._asked)
        sketched = self.__dict__.get("sketched")
        if sketched and sketched.cut.base is self._base:
            return sketched
        return BuiltCut.of(self._asked, self._base)

    @cached_property
    def sketched(self) -> BuiltCut:
        """The cut, with random weights in place of such as would be downloaded.

        Raises:
            OptionError: The base, layer or weights cannot be used.
        """
        if not isinstance(self._asked, CutSpec):
            return self.built
        return BuiltCut.of(self._asked, self._look[0])

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

    @cached_property
    def _found(self) -> KeptTrunk | None:
        """The trunk, if this machine has made it before, for whatever precision and storage type."""
        return KeptTrunk.find(self._key) if self._key else None

    @cached_property
    def _kept(self) -> KeptTrunk:
        """The trunk, which is made where it is not there."""
        if self._found:
            return self._found
        built = self.built
        # One trunk for all pixels.
        plain = replace(built.cut, full_decode=False, resize="stretch")
        manifest = describe(plain, built.model, built.tail, self._weights, "float32")
        return KeptTrunk.make(self._key or kept_key(manifest.fingerprint), manifest, built.model, built.tail)

    @cached_property
    def _key(self) -> str | None:
        if not isinstance(self._asked, CutSpec):
            return None
        token = cut_token(
            replace(self._asked, precision="auto", dtype="float32", full_decode=False, resize="stretch")
        )
        return kept_key(token) if token else None

    def _known_to(self, candidate: Candidate) -> Cache | None:
        """The known cache, if an engine makes such rows as it has."""
        known = self.known()
        if not known or known.manifest.precision != candidate.precision:
            return None
        layers = known.manifest.float32_layers
        if not is_kept(candidate):
            return known if not layers else None
        engine = engine_class(candidate.path)
        is_whole = not engine.damage(known.trunk_path)
        own = engine.float32_layers(known.trunk_path) if is_whole else self._kept.float32_layers(candidate)
        return known if own == layers else None

    def _describe(self, candidate: Candidate) -> Manifest:
        layers = () if candidate.precision == "float32" else self._kept.float32_layers(candidate)
        return self._manifest(candidate.precision, layers)

    def _manifest(self, precision: str, float32_layers: tuple[str, ...]) -> Manifest:
        kept, asked = self._kept.manifest, self._asked
        rule = self._rule(kept.size)
        manifest = replace(
            kept,
            **{**asdict(rule), "base": asked.base.name, "weights": self._weights, "dtype": asked.dtype},
            precision=precision,
            float32_layers=float32_layers,
        )
        return replace(manifest, fingerprint=fingerprint(manifest))

    @property
    def _crop_is_of_base(self) -> bool:
        """Whether only the base tells how much of an image is seen."""
        asked = self._asked
        return asked.resize == "crop" and (isinstance(asked.base, Base) or is_preset(asked.base.name))

    def _rule(self, size: tuple[int, int]) -> PixelRule:
        asked = self._asked
        crop = self.built.cut.base.crop if self._crop_is_of_base else 1
        return pixel_rule(size, full_decode=asked.full_decode, resize=asked.resize, crop=crop)

    def _reference(self, candidate: Candidate) -> Callable[[np.ndarray], np.ndarray] | None:
        """What stands for Keras, if this machine has compared it."""
        kept = self.__dict__.get("_kept") or self._found
        return kept.reference(candidate) if kept else None

    @property
    def _weights(self) -> str:
        given = self._asked.base.weights if isinstance(self._asked, CutSpec) else None
        own = "imagenet" if find_architecture(self._asked.base.name) else "own"
        return Path(given).name if given else own  # the digest tells files of one name apart


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


def _keep_model(path: Path, kept: Path, fingerprint: str) -> None:
    """Put a kept model into a cache, unless it is there and whole."""
    reason = checked_files.damage(mirror.local(path))
    if not reason:
        return
    if path.exists():
        logger.warning("%s. It will be recreated from the base", reason)
    checked_files.keep(path, lambda temporary: shutil.copyfile(kept, temporary), of=fingerprint)

"""A folder of explanations: a picture per image, a table of them, and all at a glance."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fastcls import files
from fastcls.data.decoder import UnreadableImage
from fastcls.data.tfrecord import split_address
from fastcls.data.video import Frame
from fastcls.errors import DataError
from fastcls.extraction.fidelity import evenly_spaced
from fastcls.files import PathLike
from fastcls.inference.classifier import Classifier
from fastcls.inference.explainer import Explainer, Explanation
from fastcls.inference.inputs import Single, each
from fastcls.inference.overlays import encoded, overlay, photo, picture, sheet, shrunk
from fastcls.machine import cores
from fastcls.parallel import ahead
from fastcls.specs import DrawSpec, ExplainSpec
from fastcls.specs.options import as_spec
from fastcls.storage.paths import UrlPath, as_place
from fastcls.web import Url

TABLE, ABOUT, SHEET = "explained.csv", "explained.json", "contact_sheet.jpg"
_COLUMNS = ("path", "rank", "class", "confidence", "layer", "file", "reason")
_KEPT = (".jpg", ".jpeg", ".png")  # pictures of other images become PNG files
_ON_SHEET = 48
_ROW, _SHEET = 250, 1600  # pixels: height of a row on it, and its width


@dataclass(frozen=True)
class Explained:
    """What was explained, and where it is written.

    Attributes:
        folder: Where.
        layer: The layer whose map was explained.
        shape: Shape of its map: (h, w, C).
        images: How many images have a picture.
        maps: How many maps are on them.
        unreadable: Path and reason of each image that could not be read.
    """

    folder: Path
    layer: str
    shape: tuple[int, ...]
    images: int
    maps: int
    unreadable: tuple[tuple[Path, str], ...]


@dataclass(frozen=True, eq=False)
class Overlay:
    """An explained image as a small picture.

    Attributes:
        explanation: The explanation.
        picture: (h, w, 3) uint8 RGB: the evidence for its first class on the image; the plain image where no
            class is explained; None where the image cannot be read.
    """

    explanation: Explanation
    picture: np.ndarray | None


def explain_images(
    classifier: Classifier,
    paths: Sequence[PathLike],
    how: ExplainSpec | Mapping[str, Any] | None = None,
    *,
    size: int = 160,
    colormap: str = "viridis",
) -> Iterator[Overlay]:
    """Explain some images and draw each small, for a page of many.

    Args:
        classifier: The classifier.
        paths: The image files.
        how: See `explain`.
        size: Longer side of a picture, in pixels.
        colormap: Colors of the maps.

    Yields:
        One per image, in order.

    Raises:
        OptionError: As in `explain`.
    """
    draw = DrawSpec(colormap=colormap, size=size)
    explainer = Explainer(classifier, as_spec(ExplainSpec, how, "how"))
    found = explainer.stream([as_place(path) for path in paths])
    return ahead(partial(_overlaid, draw), found, threads=cores(), depth=32)


def explain_files(
    classifier: Classifier,
    images: Sequence[PathLike],
    out: Path,
    how: ExplainSpec,
    draw: DrawSpec,
    *,
    image_key: str | None = None,
    batch_size: int = 16,
    max_pixels: int | None = None,
    progress: bool = False,
) -> Explained:
    """Explain image files, and write a folder that appears whole: see `docs/explain.md`.

    Args:
        classifier: The classifier.
        images: Image files, folders and patterns, also at URLs, and TFRecord files. A picture has the path
            that its image has below the folder that all of them are in.
        out: The folder to write; it must be new or empty.
        how: What is explained.
        draw: How it is drawn.
        image_key: Key of the image in the records of TFRecord files.
        batch_size: Images per forward pass.
        max_pixels: See `Classifier.predict`.
        progress: Show a bar on stderr.

    Raises:
        OptionError: `out` holds something, or as in `explain`.
        DataError: A folder holds no image, or no image could be read.
    """
    files.require_new_folder(out)
    paths = list(dict.fromkeys(_require_file(image) for image in each(images, image_key)))
    # Before Keras loads the model for seconds.
    if not any(map(_may_be_there, paths)):
        raise DataError(
            f"None of the images could be read. The first: {paths[0]}: cannot be read: "
            "No such file or directory"
        )
    explainer = Explainer(classifier, how)
    root = _root([as_place(image) for image in images], paths)
    names = dict(zip(paths, _names([_below(root, path) for path in paths]), strict=True))
    writing = _Writing(explainer, draw, root, names)
    with files.atomic_folder(out) as folder:
        found = explainer.stream(paths, batch_size=batch_size, max_pixels=max_pixels)
        drawn = ahead(partial(writing.draw, folder), found, threads=cores(), depth=2 * batch_size)
        done = list(tqdm(drawn, "explain", len(paths), leave=False, unit="image", disable=not progress))
        return writing.complete(folder, out, done)


def _may_be_there(path: Path) -> bool:
    return isinstance(path, UrlPath) or os.path.lexists(split_address(str(path))[0])


def _require_file(image: Single) -> Path:
    if isinstance(image, Url):
        return as_place(image.address)
    if not isinstance(image, Path):
        name = image.name if isinstance(image, Frame) else str(image)
        raise DataError(f"Pictures are made of image files, not of videos. Received: {name}")
    return image


@dataclass(frozen=True)
class _Drawn:
    """What is left to remember of an image whose picture is written."""

    path: Path
    rows: list[tuple[Any, ...]]
    small: np.ndarray | None
    maps: int = 0
    reason: str = ""


class _Writing:
    def __init__(self, explainer: Explainer, draw: DrawSpec, root: Path, names: Mapping[Path, Path]) -> None:
        self._explainer, self._draw, self._root, self._names = explainer, draw, root, names
        paths = list(names)
        self._on_sheet = {paths[place] for place in evenly_spaced(len(paths), _ON_SHEET)}

    def draw(self, folder: Path, explanation: Explanation) -> _Drawn:
        """Write the picture of an image."""
        path = as_place(str(explanation.image))
        classes = self._explainer.classifier.class_names
        try:
            if explanation.reason:
                raise UnreadableImage(explanation.reason)
            made = picture(explanation, [*map(classes.index, explanation.class_names)], self._draw)
        except UnreadableImage as error:
            return _Drawn(path, [self._row(path, reason=str(error))], None, reason=str(error))
        file = folder / self._names[path]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(made, file.suffix.lower()))
        ranked = enumerate(zip(explanation.class_names, explanation.confidences, strict=True), 1)
        rows = [self._row(path, rank, *named) for rank, named in ranked] or [self._row(path)]
        small = shrunk(made, 2 * _ROW) if path in self._on_sheet else None
        return _Drawn(path, rows, small, len(explanation.class_names))

    def _row(
        self,
        path: Path,
        rank: int = 0,
        class_name: str = "",
        confidence: float | None = None,
        reason: str = "",
    ) -> tuple[Any, ...]:
        shown = _below(self._root, path).as_posix()
        figure = "" if confidence is None else f"{confidence:.6f}"
        file = "" if reason else self._names[path].as_posix()
        return shown, rank, class_name, figure, self._explainer.network.layer, file, reason

    def complete(self, folder: Path, out: Path, done: Sequence[_Drawn]) -> Explained:
        """Write what is said of all images."""
        unreadable = tuple((one.path, one.reason) for one in done if one.reason)
        if len(unreadable) == len(done):
            raise DataError(
                f"None of the images could be read. The first: {unreadable[0][0]}: {unreadable[0][1]}"
            )
        with (folder / TABLE).open("w", **files.CSV_TEXT) as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(row for one in done for row in one.rows)
        small = [one.small for one in done if one.small is not None]
        (folder / SHEET).write_bytes(encoded(sheet(small, _ROW, _SHEET), ".jpg"))
        network, maps = self._explainer.network, sum(one.maps for one in done)
        made = Explained(out, network.layer, network.shape, len(done) - len(unreadable), maps, unreadable)
        files.write_json(folder / ABOUT, self._about(made))
        return made

    def _about(self, made: Explained) -> dict[str, Any]:
        classifier, how = self._explainer.classifier, self._explainer.how
        source = classifier.source
        place = os.fsencode(source.absolute()).decode(errors="replace") if source else None
        return {
            "method": how.method,
            "score": "logit",
            "layer": made.layer,
            "map": list(made.shape),
            "class": how.class_name,
            "top_k": how.top_k,
            "threshold": how.threshold,
            "images": made.images,
            "unreadable": len(made.unreadable),
            "root": _in_words(self._root, self._names),
            "classifier": place,
            "model": files.file_digest(source) if source else None,
            "class_names": classifier.class_names,
        }


def _overlaid(draw: DrawSpec, explanation: Explanation) -> Overlay:
    try:
        if explanation.reason:
            return Overlay(explanation, None)
        if not explanation.class_names:
            return Overlay(explanation, photo(explanation.image, draw.size))
        return Overlay(explanation, overlay(explanation, 0, draw))
    except UnreadableImage:  # it is gone since
        return Overlay(explanation, None)


def _root(given: Sequence[Path], paths: Iterable[Path]) -> Path:
    """The folder that all that is given is in."""
    images = set(paths)
    return Path(os.path.commonpath([_plain(_folder(place, images)) for place in given]))


def _folder(place: Path, images: Container[Path]) -> Path:
    if isinstance(place, UrlPath):  # nothing is listed for it
        above = (place, *place.parents)
        return next(each for each in above if each not in images and not glob.has_magic(str(each)))
    place = _plain(place)
    return next(each for each in (place, *place.parents) if each.is_dir())


def _in_words(root: Path, paths: Iterable[Path]) -> str:
    """The folder as a user calls it."""
    if not all(isinstance(path, UrlPath) for path in paths) or len(root.parts) < 3:
        return os.fsencode(root).decode(errors="replace")
    return f"{root.parts[1]}://{'/'.join(root.parts[2:])}"


def _plain(path: Path) -> Path:
    """An absolute path without dots; links stay. Of a URL, one that begins with its scheme."""
    if isinstance(path, UrlPath):
        scheme, _, rest = str(path).partition("://")
        return Path("/", scheme, rest)
    return Path(os.path.normpath(path.absolute()))


def _below(root: Path, path: Path) -> Path:
    return _plain(path).relative_to(root)


def _names(paths: Sequence[Path]) -> Iterator[Path]:
    """A path for the picture of each image; no two are the same."""
    taken = {TABLE, ABOUT, SHEET}
    for path in paths:
        name = path if path.suffix.lower() in _KEPT else path.with_name(f"{path.name}.png")
        number, free = 1, name
        while free.as_posix() in taken:
            number += 1
            free = name.with_stem(f"{name.stem}-{number}")
        taken.add(free.as_posix())
        yield free

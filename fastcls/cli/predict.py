"""`fastcls predict`: classes of image files."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from fastcls.cli import options
from fastcls.cli.options import PixelSpec, SpecCommand
from fastcls.cli.printing import echo_above_bar
from fastcls.specs import UNSURE, AnswerSpec, check_answer

if TYPE_CHECKING:
    from fastcls.inference.classifier import Classifier
    from fastcls.inference.results import ImageResult

Ranked = list[tuple[str, float]]


@dataclass(frozen=True)
class _Said:
    """What is printed of an image.

    Attributes:
        ranked: Classes with their probabilities.
        answer: The class, or "unsure", where there is a least probability for an answer; "" elsewhere.
        is_raw: Whether the classes are all of them, whichever are predicted.
        is_long: Whether several classes were asked for.
        unfamiliarity: Above 1, the image is unlike the training images; None where that is not known.
    """

    ranked: Ranked
    answer: str
    is_raw: bool
    is_long: bool
    unfamiliarity: float | None = None

    @property
    def is_unfamiliar(self) -> bool | None:
        """Whether it is unlike the training images; None where that is not known."""
        return None if self.unfamiliarity is None else self.unfamiliarity > 1

    @property
    def told(self) -> Ranked:
        """The answer with the probability of the likeliest class and, if they were asked for, the classes."""
        if self.answer != UNSURE:
            return self.ranked
        return [(UNSURE, self.ranked[0][1]), *(self.ranked if self.is_long else ())]


@click.command(cls=SpecCommand, specs={"answer": AnswerSpec, "pixels": PixelSpec})
@click.argument("run", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--json", "form", flag_value="json", help="Print one line of JSON per image.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV: path,rank,class,confidence,unfamiliar.")
@click.option("--image-key", metavar="KEY", help="Key of the image file in the records of TFRecord files.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="INTEGER",
    default=16,
    show_default=True,
    help="Images per forward pass.",
)
def predict(
    run: str,
    images: tuple[str, ...],
    form: str | None,
    image_key: str | None,
    batch_size: int,
    answer: AnswerSpec,
    pixels: PixelSpec,
) -> None:
    """Classify images.

    RUN is a run folder or a classifier.keras. IMAGES are image files, folders (searched recursively) or
    TFRecord files.

    A classifier of several labels per image prints every class that reaches its threshold, which was chosen
    in validation; there may be none.

    Images that are unlike those that it was trained on are marked (unfamiliar): they are farther away than
    95 % of those that it was validated on, by a distance of bottlenecks. A confidence says little there.
    Networks that were finetuned do not mark images.

    With --min-confidence, JSON has the answer and, beside it, the classes with their probabilities; with
    --top-k the other forms list them after the answer.

    Unreadable images are reported on stderr and skipped; the exit code is then 1.
    """
    from fastcls.inference.classifier import Classifier
    from fastcls.inference.inputs import each

    paths = list(each(images, image_key))
    classifier = Classifier.load(run)
    check_answer(answer, classifier.task, classifier.class_names)
    if form == "csv":
        click.echo("path,rank,class,confidence,unfamiliar")
    failed = 0
    for result in _stream(classifier, paths, answer, batch_size, pixels.max_pixels):
        if result.probabilities is None:
            failed += 1
            echo_above_bar(f"Unreadable: {str(result.path)!r}: {result.reason}", err=True)
        else:
            echo_above_bar(_FORMS[form](str(result.path), _said(result, answer)))
    if failed:
        sys.exit(1)


def _stream(
    classifier: Classifier, paths: Sequence[Any], answer: AnswerSpec, batch_size: int, max_pixels: int | None
) -> Iterator[ImageResult]:
    """The results, with a bar where someone is watching."""
    found = classifier.stream(
        paths,
        batch_size=batch_size,
        max_pixels=max_pixels,
        threshold=answer.threshold,
        min_confidence=answer.min_confidence,
    )
    shown = options.show_progress() and len(paths) > batch_size
    with tqdm(found, total=len(paths), unit="image", desc="predict", leave=False, disable=not shown) as bar:
        yield from bar
    classifier.keep()  # all is printed, and the next time it starts at once


def _said(result: ImageResult, answer: AnswerSpec) -> _Said:
    is_long, score = answer.top_k is not None and answer.top_k > 1, result.unfamiliarity
    if answer.scores:
        return _Said(result.scores(answer.top_k), "", is_raw=True, is_long=is_long, unfamiliarity=score)
    said = "" if answer.min_confidence is None else str(result.class_name)
    list_classes = result.scores if said else result.top  # the answer may be none of them
    ranked = list_classes(answer.top_k or result.classifier.task.answers)
    return _Said(ranked, said, is_raw=False, is_long=is_long, unfamiliarity=score)


def _as_line(path: str, said: _Said) -> str:
    shown = path if path.isprintable() else repr(path)
    spec = ".6f" if said.is_raw else ".1%"
    told = [f"{name} {value:{spec}}" for name, value in said.told]
    mark = " [unfamiliar]" if said.is_unfamiliar else ""
    if said.answer == UNSURE and said.is_long:
        return f"{shown}: {told[0]} ({', '.join(told[1:])}){mark}"
    return f"{shown}: {', '.join(told) or 'no class'}{mark}"


def _as_json(path: str, said: _Said) -> str:
    answer = {"answer": said.answer} if said.answer else {}
    classes = [{"class": name, "confidence": round(value, 6)} for name, value in said.ranked]
    told: dict[str, Any] = {"path": path, **answer, "scores" if said.is_raw else "predictions": classes}
    if said.unfamiliarity is not None:
        told |= {"unfamiliar": said.is_unfamiliar, "unfamiliarity": round(said.unfamiliarity, 4)}
    return json.dumps(told)


def _as_csv(path: str, said: _Said) -> bytes:
    text = io.StringIO()
    rows = [(path, rank, name, f"{value:.6f}") for rank, (name, value) in enumerate(said.told, 1)]
    rows = rows or [(path, 0, "", "")]  # an image without any class keeps its line
    mark = {True: "true", False: "false", None: ""}[said.is_unfamiliar]
    csv.writer(text, lineterminator="\n").writerows((*row, mark) for row in rows)
    return text.getvalue().removesuffix("\n").encode(errors="surrogateescape")  # names need not be UTF-8


_FORMS: dict[str | None, Callable[..., str | bytes]] = {
    None: _as_line,
    "json": _as_json,
    "csv": _as_csv,
}

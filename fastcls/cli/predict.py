"""`fastcls predict`: classes of images, wherever they come from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from fastcls.cli import options
from fastcls.cli.options import PixelSpec, SpecCommand
from fastcls.cli.printing import echo_above_bar
from fastcls.data.csv_table import as_csv
from fastcls.specs import ENGINES, UNSURE, AnswerSpec, check_answer
from fastcls.wording import on_one_line, some_of

if TYPE_CHECKING:
    from fastcls.inference.classifier import Classifier
    from fastcls.inference.results import ImageResult
    from fastcls.inference.sources import Sources
    from fastcls.inference.window import Window

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
        seconds: When the image is shown in its video; None where it is no frame of one.
    """

    ranked: Ranked
    answer: str
    is_raw: bool
    is_long: bool
    unfamiliarity: float | None = None
    seconds: float | None = None

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

    @property
    def words(self) -> list[str]:
        """What is told, in words."""
        spec = ".6f" if self.is_raw else ".1%"
        return [f"{on_one_line(name)} {value:{spec}}" for name, value in self.told]

    @property
    def mark(self) -> str:
        """What follows the words."""
        return " [unfamiliar]" if self.is_unfamiliar else ""


@click.command(cls=SpecCommand, specs={"answer": AnswerSpec, "pixels": PixelSpec})
@click.argument("run", type=click.Path())
@click.argument("sources", nargs=-1, required=True, type=click.Path(allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per image.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: path,rank,class,confidence,unfamiliar.")
@click.option(
    "--sort-into",
    type=click.Path(),
    metavar="FOLDER",
    help="Also link to the images in a folder for each predicted class, in a new FOLDER.",
)
@click.option(
    "--every", type=click.IntRange(1), metavar="N", help="Of videos and cameras, take every Nth frame."
)
@click.option(
    "--show",
    is_flag=True,
    help="Show frames of videos and cameras with their classes in a window; q, Escape or closing it ends.",
)
@options.image_key
@click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINES]),
    default="auto",
    show_default=True,
    help="What runs the classifier, in float32; auto: the faster one. Exports have a runtime of their own.",
)
@options.batch_size
def predict(
    run: str,
    sources: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    sort_into: str | None,
    every: int | None,
    show: bool,
    image_key: str | None,
    engine: str,
    batch_size: int,
    answer: AnswerSpec,
    pixels: PixelSpec,
) -> None:
    """Classify images.

    RUN is a run folder, a classifier.keras or an export. SOURCES are image files, folders (searched
    recursively), quoted patterns ('photos/**/*.jpg'), TFRecord files, http:// or https:// addresses, videos
    (clip.mp4, see --every), a camera (camera:0, until Ctrl-C), and - for a list of such on standard input,
    one in each line.

    A classifier of several labels per image prints every class that reaches its threshold, which was chosen
    in validation; there may be none.

    Images that are unlike those that it was trained on are marked (unfamiliar): they are farther away than
    95 % of those that it was validated on, by a distance of bottlenecks. A confidence says little there.
    Networks that were finetuned do not mark images, nor do exports.

    With --min-confidence, JSON has the answer and, beside it, the classes with their probabilities; with
    --top-k the other forms list them after the answer.

    Unreadable images are reported on stderr and skipped; the exit code is then 1.
    """
    from fastcls import files
    from fastcls.inference.classifier import Classifier
    from fastcls.inference.sources import open_sources

    if as_json and as_csv:
        raise click.UsageError("Give either --json or --csv.")
    if sort_into:
        files.require_new_folder(Path(sort_into), "--sort-into")
    opened = open_sources(sources, image_key=image_key, every=every)
    if sort_into:
        opened.require_files()
    window = _window(run, opened) if show else None
    classifier = Classifier.load(run, engine=engine)
    check_answer(answer, classifier.task, classifier.class_names)
    results = _stream(classifier, opened, answer, batch_size, pixels.max_pixels, window)
    if sort_into:
        results = _sorted(results, sort_into)
    if window:
        results = _shown(results, window, answer)
    try:
        failed = _print(results, answer, "json" if as_json else "csv" if as_csv else None)
    except KeyboardInterrupt:
        if not opened.is_endless:
            raise
        return
    if failed:
        sys.exit(1)


def _print(results: Iterable[ImageResult], answer: AnswerSpec, form: str | None) -> int:
    """Print the results, and return how many images are unreadable."""
    if form == "csv":
        click.echo("path,rank,class,confidence,unfamiliar")
    failed = 0
    for result in results:
        if result.probabilities is None:
            failed += 1
            echo_above_bar(f"Unreadable: {result.name!r}: {result.reason}", err=True)
        else:
            echo_above_bar(_FORMS[form](result.name, _said(result, answer)))
    return failed


def _window(run: str, sources: Sources) -> Window:
    from fastcls.inference.window import Window

    sources.require_frames("--show")
    return Window(f"{run} - fastcls")


def _shown(results: Iterable[ImageResult], window: Window, answer: AnswerSpec) -> Iterator[ImageResult]:
    """The results, until the window in which they are shown is closed."""
    try:
        for result in results:
            yield result
            if result.probabilities is not None:
                said = _said(result, answer)
                window.show(result.name, ("\n".join(said.words) or "no class") + said.mark)
            if not window.is_open:
                return
    finally:
        window.close()


def _stream(
    classifier: Classifier,
    sources: Sources,
    answer: AnswerSpec,
    batch_size: int,
    max_pixels: int | None,
    window: Window | None,
) -> Iterator[ImageResult]:
    """The results, with a bar where someone is watching."""
    found = (
        result
        for group in sources.groups()
        for result in classifier.stream(
            window.kept(group.images) if window else group.images,
            batch_size=1 if window or group.is_live else batch_size,
            max_pixels=max_pixels,
            threshold=answer.threshold,
            min_confidence=answer.min_confidence,
        )
    )
    count = sources.count
    shown = options.show_progress() and count is not None and count > batch_size
    with tqdm(found, total=count, unit="image", desc="predict", leave=False, disable=not shown) as bar:
        yield from bar
    classifier.keep()  # all is printed, and the next time it starts at once


def _sorted(results: Iterable[ImageResult], folder: str) -> Iterator[ImageResult]:
    """The results, which are sorted by and by; what was sorted is said at the end."""
    from fastcls.inference.sorted_images import sorting

    with sorting(folder) as made:
        for result in results:
            made.add(result)
            yield result
    counts = some_of([f"{on_one_line(name)} {count:,}" for name, count in sorted(made.counts.items())], 20)
    click.echo(f"Sorted into {folder}: {counts or 'nothing'}", err=True)


def _said(result: ImageResult, answer: AnswerSpec) -> _Said:
    is_long = answer.top_k is not None and answer.top_k > 1
    known: dict[str, Any] = {
        "is_long": is_long,
        "unfamiliarity": result.unfamiliarity,
        "seconds": result.seconds,
    }
    if answer.scores:
        return _Said(result.scores(answer.top_k), "", is_raw=True, **known)
    said = "" if answer.min_confidence is None else str(result.class_name)
    list_classes = result.scores if said else result.top  # the answer may be none of them
    ranked = list_classes(answer.top_k or result.classifier.task.answers)
    return _Said(ranked, said, is_raw=False, **known)


def _as_line(path: str, said: _Said) -> str:
    shown = on_one_line(path)
    words = said.words
    if said.answer == UNSURE and said.is_long:
        return f"{shown}: {words[0]} ({', '.join(words[1:])}){said.mark}"
    return f"{shown}: {', '.join(words) or 'no class'}{said.mark}"


def _as_json(path: str, said: _Said) -> str:
    answer = {"answer": said.answer} if said.answer else {}
    classes = [{"class": name, "confidence": round(value, 6)} for name, value in said.ranked]
    time = {} if said.seconds is None else {"seconds": round(said.seconds, 3)}
    told: dict[str, Any] = {
        "path": path,
        **time,
        **answer,
        "scores" if said.is_raw else "predictions": classes,
    }
    if said.unfamiliarity is not None:
        told |= {"unfamiliar": said.is_unfamiliar, "unfamiliarity": round(said.unfamiliarity, 4)}
    return json.dumps(told)


def _as_csv(path: str, said: _Said) -> bytes:
    rows = [(path, rank, name, f"{value:.6f}") for rank, (name, value) in enumerate(said.told, 1)]
    rows = rows or [(path, 0, "", "")]  # an image without any class keeps its line
    mark = {True: "true", False: "false", None: ""}[said.is_unfamiliar]
    text = as_csv([(*row, mark) for row in rows])
    return text.removesuffix("\n").encode(errors="surrogateescape")  # names need not be UTF-8


_FORMS: dict[str | None, Callable[..., str | bytes]] = {
    None: _as_line,
    "json": _as_json,
    "csv": _as_csv,
}

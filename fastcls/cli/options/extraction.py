"""Options of the base, the cut, the split and the extraction."""

from __future__ import annotations

from typing import Any

import click

from fastcls.cli.options.common import Command, apply, drop_loaded, refuse_typed
from fastcls.cli.options.data import full_decode_option, max_pixels_option
from fastcls.specs import (
    DEFAULT_RECIPE,
    DTYPES,
    ENGINES,
    NORMALIZATIONS,
    OPERATIONS,
    POOLS,
    PRECISIONS,
    RECIPES,
    BaseSpec,
    CutSpec,
    ExtractConfig,
    SplitSpec,
    ViewSpec,
)


class ImageSize(click.ParamType):
    """`224` or `240x320` (height x width) -> (height, width)."""

    name = "size"
    takes_lists = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text."""
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
            self.fail(f"{value!r} is not a size: expected pixels such as 224, or HEIGHTxWIDTH", param, ctx)
        return int(sides[0]), int(sides[-1])


def base_options(command: Command) -> Command:
    """Which base, with which weights, seen how."""
    return apply(
        command,
        click.option(
            "--base",
            required=True,
            help="A name that `fastcls bases` lists, a .keras, .h5 or SavedModel file, or module:function.",
        ),
        base_details,
    )


def base_details(command: Command) -> Command:
    """The options of a base that is named elsewhere."""
    return apply(
        command,
        click.option(
            "--weights",
            metavar="imagenet|random|PATH",
            help="Weights of the base. [default: imagenet for keras.applications, else its own]",
        ),
        click.option(
            "--size",
            type=ImageSize(),
            metavar="N|HxW",
            help="Image size in pixels. [default: the base's own]",
        ),
        click.option(
            "--normalize",
            metavar="|".join((*NORMALIZATIONS, "MEAN,STD")),
            help="What the base expects of pixels. Mean and standard deviation are of pixels 0..1 (0.5,0.5) "
            "or 0..255 (127.5,128), one each or three each. [default: the base's own]",
        ),
        click.option(
            "--include-top", is_flag=True, help="Keep the classifier of a listed base, to cut inside it."
        ),
    )


def cut_options(command: Command) -> Command:
    """Where the base is cut and how a bottleneck is kept."""
    return apply(
        command,
        click.option(
            "--cut",
            "cuts",
            metavar="LAYER",
            multiple=True,
            help="Layer to cut at (`fastcls layers BASE` lists them); `extract` takes several, each with its "
            "own cache, in one forward pass. [default: before the classifier]",
        ),
        click.option(
            "--pool",
            type=click.Choice(POOLS),
            help="What becomes of a spatial bottleneck. [default: avg; none for a named layer, so that the "
            "rest of the base can be trained on it]",
        ),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default=CutSpec.dtype,
            show_default=True,
            help="Storage type of a bottleneck.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default=CutSpec.precision,
            show_default=True,
            help="Type in which the trunk computes; auto: the fastest that this machine computes natively "
            "and that comes near enough to float32. int8 needs the extra of that name.",
        ),
        full_decode_option,
    )


def split_options(command: Command) -> Command:
    """How the images of each class are divided."""
    return apply(
        command,
        click.option(
            "--val",
            type=float,
            default=SplitSpec.val,
            show_default=True,
            help="Fraction of each class for validation.",
        ),
        click.option(
            "--test",
            type=float,
            default=SplitSpec.test,
            show_default=True,
            help="Fraction of each class for the test.",
        ),
    )


def extract_options(command: Command) -> Command:
    """How the extraction runs."""
    return apply(
        command,
        click.option(
            "--cache",
            "cache_root",
            type=click.Path(file_okay=False),
            default="bottlenecks",
            show_default=True,
            help="Folder of bottleneck caches.",
        ),
        click.option(
            "--engine",
            type=click.Choice(("auto", *ENGINES)),
            default=ExtractConfig.engine,
            show_default=True,
            help="What runs the trunk; auto: the fastest there is. openvino, for CPUs, needs the extra of "
            "that name.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1),
            help="Worker processes. [default: one per GPU, or per core as far as the memory allows]",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            help="Images per forward pass. [default: 8 on CPUs, 64 on GPUs]",
        ),
        click.option(
            "--shard-size",
            type=click.IntRange(1),
            default=ExtractConfig.shard_size,
            show_default=True,
            help="Bottlenecks per shard: what a crash can cost at most.",
        ),
        click.option(
            "--compress",
            is_flag=True,
            help="Deflate the bottlenecks: spatial maps take less room, and longer to read.",
        ),
        max_pixels_option,
        click.option(
            "--max-failures",
            type=click.IntRange(0),
            help="Stop when more images than this cannot be read. [default: no limit]",
        ),
    )


def name_option(command: Command) -> Command:
    """What a data set is called in a cache that serves several."""
    return apply(
        command,
        click.option(
            "--name",
            metavar="NAME",
            help="What the data set is called in the cache, which may serve several: its tables are "
            "samples/NAME.csv and failures/NAME.csv. [default: after the folder or file of DATA]",
        ),
    )


def view_options(command: Command) -> Command:
    """Which augmented views are kept."""
    return apply(
        command,
        click.option(
            "--views",
            type=click.IntRange(1),
            default=ViewSpec.views,
            show_default=True,
            help="Views of each image to train on: the plain one, and augmented ones, of which each epoch "
            "takes one. More of the same recipe can be added later.",
        ),
        click.option(
            "--augment",
            metavar="RECIPE",
            default=DEFAULT_RECIPE,
            show_default=True,
            help="What makes the others: operations with ranges, such as flip,crop=0.6:1,rotate=15,"
            "contrast=0.8:1.2. There are " + ", ".join(OPERATIONS) + f". {DEFAULT_RECIPE} is "
            f"{RECIPES[DEFAULT_RECIPE]}.",
        ),
        click.option(
            "--view-seed",
            type=click.IntRange(0),
            default=ViewSpec.view_seed,
            show_default=True,
            help="Another seed, other views.",
        ),
    )


def read_base(values: dict[str, Any]) -> BaseSpec:
    """Take the base options out of a command's values."""
    names = ("weights", "size", "normalize", "include_top")
    return BaseSpec(values.pop("base"), **{name: values.pop(name) for name in names})


def read_cut(values: dict[str, Any]) -> CutSpec:
    """Take the base and cut options out of a command's values."""
    cuts = read_cuts(values)
    if len(cuts) > 1:
        raise click.UsageError(
            "A head is trained on one cut: give one --cut. `fastcls extract` takes several."
        )
    return cuts[0]


def read_cuts(values: dict[str, Any]) -> list[CutSpec]:
    """Take the base and cut options out of a command's values: a spec per cut."""
    base = read_base(values)
    layers = values.pop("cuts") or (None,)
    kept = {name: values.pop(name) for name in ("pool", "dtype", "precision", "full_decode")}
    return [CutSpec(base, layer, **kept) for layer in layers]


def read_extract(values: dict[str, Any]) -> ExtractConfig:
    """Take the extraction options (but the cache folder) out of a command's values."""
    names = ("engine", "workers", "batch_size", "shard_size", "compress", "max_pixels", "max_failures")
    return ExtractConfig(**{name: values.pop(name) for name in names})


def read_views(values: dict[str, Any]) -> ViewSpec:
    """Take the options of augmented views out of a command's values."""
    if values["views"] == 1:
        refuse_typed("--views 1", {"augment", "view_seed"})
        drop_loaded(values, "views", {"augment", "view_seed"})
    return ViewSpec(values.pop("views"), values.pop("augment"), values.pop("view_seed"))

"""`fastcls bases` and `fastcls layers`: what there is to cut, and where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from fastcls.cli import options

if TYPE_CHECKING:
    from fastcls.bases.registry import Architecture


@click.command()
def bases() -> None:
    """List the bases by name: input size, parameters, default cut, where weights come from, their license.

    Keras downloads its own weights (imagenet); `fastcls import-weights` converts those of other sources.
    The license is the one that their publisher states. Any base takes --weights PATH or --weights random.
    Files (.keras, .h5, SavedModel), module:function and keras_hub:PRESET are bases too.
    """
    from fastcls.bases.registry import ARCHITECTURES
    from fastcls.evaluation.text_table import format_table

    rows = [["base", "size", "parameters", "default cut", "features", "normalize", "weights", "license"]]
    for name, row in ARCHITECTURES.items():
        size = f"{row.side}x{row.side}"
        numbers = [f"{row.parameters:,}", row.output, str(row.features)]
        rows.append([name, size, *numbers, row.normalize, _weights(row), row.license or "-"])
    click.echo(format_table(rows))


def _weights(row: Architecture) -> str:
    if row.is_keras:
        return "imagenet"
    return ", ".join(row.published) or "-"


@click.command()
@click.argument("base")
@options.base_details
def layers(base: str, **values: Any) -> None:
    """List the cut points of BASE: every path from input to output passes through them.

    Their output is a vector, tokens (tokens x channels) or a map (height x width x channels).
    BYTES is what one bottleneck takes as float32 without pooling. PARAMETERS and MULTIPLY-ADDS (millions,
    in convolutions and dense layers, for one image; each is two FLOPs) are those up to the cut, SHARE is
    the part of the base's multiply-adds: what the cache saves. The default cut is marked with *.
    """
    from fastcls.bases.loader import load_base
    from fastcls.bases.registry import find_architecture
    from fastcls.cutter import cut_points, default_cut_point
    from fastcls.evaluation.text_table import format_table

    if values["weights"] is None and find_architecture(base):
        values["weights"] = "random"  # shapes do not depend on them: no need to download
    loaded = load_base(options.read_base({"base": base, **values}))
    points = cut_points(loaded.model)
    default = default_cut_point(loaded.model, points)
    rows = [["layer", "shape", "bytes", "parameters", "multiply-adds", "share", ""]]
    for point in filter(lambda point: point.fits, points):
        size = f"{4 * math.prod(point.shape):,}"
        work = [f"{point.parameters:,}", f"{point.multiply_adds / 1e6:,.1f} M", f"{point.share:.1%}"]
        rows.append([point.layer, _by(point.shape), size, *work, "*" if point is default else ""])
    click.echo(format_table(rows))
    total = points[-1]
    click.echo(
        f"{base} at {_by(loaded.size)}, normalize {loaded.normalize}: {total.parameters:,} parameters, "
        f"{total.multiply_adds / 1e9:.2f} G multiply-adds ({2 * total.multiply_adds / 1e9:.2f} GFLOPs)"
    )
    if not default.fits:
        click.echo(f"It ends in {_by(default.shape)}, no vector, tokens or map: cut it earlier, with --cut")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

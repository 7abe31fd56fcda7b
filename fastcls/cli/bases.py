"""`fastcls bases` and `fastcls layers`: what there is to cut, and where."""

from __future__ import annotations

import math
from typing import Any

import click

from fastcls.cli import options


@click.command()
def bases() -> None:
    """List the models of keras.applications: input size, parameters, default cut, weights.

    Files (.keras, .h5, SavedModel) and module:function are bases too.
    """
    from fastcls.bases.applications import APPLICATIONS
    from fastcls.evaluation.tables import format_table

    rows = [["base", "size", "parameters", "default cut", "features", "normalize", "weights"]]
    for name, row in APPLICATIONS.items():
        size = f"{row.side}x{row.side}"
        numbers = [f"{row.parameters:,}", row.output, str(row.features)]
        rows.append([name, size, *numbers, row.normalize, "imagenet (downloaded by Keras), none, PATH"])
    click.echo(format_table(rows))


@click.command()
@click.argument("base")
@options.base_details
def layers(base: str, **values: Any) -> None:
    """List the cut points of BASE: every path from input to output passes through them.

    BYTES is what one bottleneck takes as float32 without pooling, FLOPS the share of the base's
    multiply-adds up to the cut: what the cache saves. The default cut is marked with *.
    """
    from fastcls.bases.applications import find_application
    from fastcls.bases.loader import load_base
    from fastcls.cutter import cut_points, default_cut_point
    from fastcls.evaluation.tables import format_table

    if values["weights"] is None and find_application(base):
        values["weights"] = "none"  # shapes do not depend on them: no need to download
    loaded = load_base(options.read_base({"base": base, **values}))
    points = cut_points(loaded.model)
    default = default_cut_point(loaded.model, points)
    rows = [["layer", "shape", "bytes", "FLOPs", ""]]
    for point in points:
        shape = "x".join(map(str, point.shape))
        size = f"{4 * math.prod(point.shape):,}"
        rows.append([point.layer, shape, size, f"{point.share:.1%}", "*" if point is default else ""])
    click.echo(format_table(rows))

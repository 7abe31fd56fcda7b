"""`fastcls bases` and `fastcls layers`: what there is to cut, and where."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from fastcls.cli.options import SpecCommand, complete_bases
from fastcls.specs import BaseSpec

if TYPE_CHECKING:
    from fastcls.bases.registry import Architecture


@click.command()
def bases() -> None:
    """List the built-in base models, and the transformers of keras_hub.

    Columns: input size, parameters, default cut, number of features, normalization, and where the weights
    come from, with the license that their publisher states. Keras downloads its own weights (imagenet);
    `fastcls import-weights` converts those of other sources. Every base also takes --weights PATH or
    --weights random. Model files of Keras 3 (.keras, .h5) and Keras 2 (.keras, .h5, SavedModel),
    module:function and keras_hub:PRESET can be used as bases, too.

    Below are the families of transformers of keras_hub, each with one of its presets: input size, length of a
    token, the --pool that linear classifiers on it are usually trained with, and the license that the makers
    of the weights state. Its ResNet, CSPNet, DenseNet, VGG, Xception, MobileNet, EfficientNet and HGNetV2 are
    bases as well. PRESET is also a folder of keras_hub's or of Hugging Face.
    """
    from fastcls.bases.families import FAMILIES
    from fastcls.bases.registry import ARCHITECTURES
    from fastcls.evaluation.text_table import format_table

    rows = [["base", "size", "parameters", "default cut", "features", "normalize", "weights", "license"]]
    for name, row in ARCHITECTURES.items():
        size = f"{row.side}x{row.side}"
        numbers = [f"{row.parameters:,}", row.output, str(row.features)]
        rows.append([name, size, *numbers, row.normalize, _weights(row), row.license or "-"])
    click.echo(format_table(rows))
    rows = [["family", "base", "size", "features", "usual pooling", "license"]]
    for family in FAMILIES:
        size = f"{family.side}x{family.side}"
        features = str(family.features)
        rows.append(
            [family.name, f"keras_hub:{family.preset}", size, features, family.pooling, family.license]
        )
    click.echo(f"\n{format_table(rows)}")


def _weights(row: Architecture) -> str:
    if row.is_keras:
        return "imagenet"
    return ", ".join(row.published) or "-"


@click.command(cls=SpecCommand, specs={"network": BaseSpec})
@click.argument("base", shell_complete=complete_bases)
def layers(base: str, network: BaseSpec) -> None:
    """List the layers at which a base can be cut.

    These are the layers of BASE that every path from input to output passes through. Their output is a
    vector, tokens (tokens x channels) or a map (height x width x channels). BASE is a name from `fastcls
    bases`, a model file, module:function or keras_hub:PRESET. Models inside a model are opened: their layers
    are listed. A file of Keras 2, such as the keras_model.h5 of Teachable Machine, needs no Keras 2.

    BYTES is the size of one bottleneck in float32 without pooling. PARAMETERS and MULTIPLY-ADDS (millions per
    image, in convolutions and dense layers; each is two FLOPs) count everything up to the cut. SHARE is that
    share of the multiply-adds of the base: what the cache saves. The default cut is marked with *.
    """
    from fastcls.bases.loader import load_base
    from fastcls.bases.registry import find_architecture
    from fastcls.cutter import cut_points, default_cut_point
    from fastcls.evaluation.text_table import format_table

    if network.weights is None and find_architecture(base):
        network = replace(network, weights="random")  # shapes do not depend on them: no need to download
    loaded = load_base(network)
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
        shape = _by(default.shape)
        click.echo(f"Its output, {shape}, is not a vector, tokens or a map: cut it earlier, with --cut")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))

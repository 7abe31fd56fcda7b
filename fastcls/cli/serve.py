"""`fastcls serve`: a classifier as an HTTP service, with a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fastcls.cli.options import SpecCommand
from fastcls.specs.serving import ServeSpec
from fastcls.wording import count_of

if TYPE_CHECKING:
    from fastcls.inference.classifier import Classifier


@click.command(cls=SpecCommand, specs={"spec": ServeSpec})
@click.argument("run", type=click.Path())
def serve(run: str, spec: ServeSpec) -> None:
    """Serve a classifier over HTTP, with a page to try it.

    RUN is a run folder, a classifier.keras or an export. The page takes images that are dropped, pasted or
    photographed. POST /predict takes an image file as the body, or several in a form; /openapi.json describes
    all. Images that arrive together are forwarded together.

    Only this machine reaches it, unless --host says otherwise. Ctrl-C or SIGTERM ends it when all that was
    asked is answered.
    """
    from fastcls.serving.server import serve as serve_classifier

    def tell(classifier: Classifier, address: str) -> None:
        classes = count_of(len(classifier.class_names), "class")
        click.echo(f"Serving {run} ({classes}) at {address}. Ctrl-C ends it")

    def tell_ready(address: str) -> None:
        click.echo(f"Ready: open {address} in a browser, or send images to {address}/predict")

    serve_classifier(run, spec, on_start=tell, on_ready=tell_ready)
    click.echo("Ended: all requests are answered")

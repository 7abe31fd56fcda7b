"""A page from its templates: text is escaped, and scripts, style and pictures are in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

PACKAGE = "fastcls.report"
# What other pages have too, in fastcls/static.
_SHARED = ("shared.js", "shared.css")
# In their order: the first ones give names to those that follow.
SCRIPTS = (
    "shared.js",
    "base.js",
    "gallery.js",
    "grid.js",
    "chart.js",
    "curves.js",
    "threshold.js",
    "map.js",
    "page.js",
)
_STYLES = ("shared.css", "page.css")
# The sections that a page may have, by their ids; a script leaves out the links to those that it has not.
SECTIONS = {
    "summary": "Figures",
    "confusion": "Confusion",
    "mistakes": "Mistakes",
    "explained": "Evidence",
    "labels": "Labels",
    "duplicates": "Duplicates",
    "threshold": "Threshold",
    "classes": "Classes",
    "map": "Map",
    "reliability": "Confidence",
    "curves": "Training",
    "learning": "More images",
    "data": "Data",
    "made": "How it was made",
}
_ABBREVIATED = {"f1": "F1", "auroc": "AUROC"}
_IN_SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def render(data: Mapping[str, Any], **context: Any) -> str:
    """The page as text.

    Args:
        data: What its scripts read.
        context: What its templates read.
    """
    script = "\n".join(["'use strict';", *map(_static, SCRIPTS)])
    environment = Environment(
        loader=PackageLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["headed"] = headed
    return environment.get_template("page.html").render(
        **context,
        sections=SECTIONS.items(),
        style=Markup("\n".join(map(_static, _STYLES))),
        script=Markup(script),
        script_digest=_digest(script),
        data=Markup(json_text(data)),
    )


def json_text(data: Any) -> str:
    """JSON that can stand inside of a script element: it has no character that HTML gives a meaning."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A path that is not UTF-8 has surrogates, which no file of UTF-8 can hold.
    return text.translate(_IN_SCRIPT).encode("utf-8", "replace").decode("utf-8")


def percent(share: float | None) -> str:
    """A share as a percentage; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f}\u00a0%"


def headed(name: str) -> str:
    """What a column of a figure is called.

    >>> headed("f1"), headed("auroc"), headed("average_precision")
    ('F1', 'AUROC', 'average precision')
    """
    return _ABBREVIATED.get(name, name.replace("_", " "))


def _digest(script: str) -> str:
    """What a content security policy knows a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _static(name: str) -> str:
    package = "fastcls" if name in _SHARED else PACKAGE
    return resources.files(package).joinpath("static", name).read_text(encoding="utf-8")

"""The pages of the site that are made from other files: see `hooks` in mkdocs.yml.

README, CONTRIBUTING, CHANGELOG and SECURITY are shown as they are. The reference has a page for each part of
the library, with all that `fastcls.__all__` names: nothing is listed twice.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import fastcls

ROOT = Path(__file__).parents[1]
# Page of the site -> file of the repository.
SHOWN = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}


def on_config(config: Any) -> Any:
    """Add the reference to the navigation."""
    config.nav.insert(2, {"Python API": [{part: f"api/{part}.md"} for part in _parts()]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for page, source in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    for part, names in _parts().items():
        body = "\n\n".join(f"::: fastcls.{name}" for name in names)
        files.append(File.generated(config, f"api/{part}.md", content=f"# fastcls: {part}\n\n{body}\n"))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Let links to files of the repository lead to their pages."""
    for page, source in SHOWN.items():
        markdown = re.sub(rf"\]\((\.\./)?{re.escape(source)}(?=[)#])", f"]({page}", markdown)
    return markdown


def _parts() -> dict[str, list[str]]:
    """The public names by the part of the library that holds them."""
    parts: dict[str, list[str]] = {}
    for name in fastcls.__all__:
        if name in fastcls._HOMES:
            part = fastcls._HOMES[name].split(".")[1]
            parts.setdefault(part, []).append(name)
    return parts

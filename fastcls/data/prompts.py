"""Prompts: what classes are called in the texts that a text tower reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fastcls.data.names import nfc
from fastcls.errors import OptionError, closest

_PLACE = "{}"


def read_prompts(given: str, class_names: Sequence[str]) -> list[tuple[str, ...]]:
    """The prompts of each class.

    Args:
        given: A template with {} for the name of a class, or a file. Its lines are templates for all classes,
            or "class: prompt" for one: a class that has such lines has no others.
        class_names: The classes.

    Raises:
        OptionError: There is no such file, it cannot be read, it names a class that there is not, or a class
            has no prompt.

    >>> read_prompts("a photo of a {}.", ["red_fox", "owl"])
    [('a photo of a red fox.',), ('a photo of a owl.',)]
    """
    path = Path(given)
    lines = [given] if _PLACE in given and not path.is_file() else _read_lines(path)
    templates: list[str] = []
    own: dict[str, list[str]] = {name: [] for name in class_names}
    for number, line in enumerate(lines, start=1):
        name = _class_of(line, class_names)
        prompt = line[len(name) + 1 :].strip() if name else line.strip()
        if not prompt and name:
            raise OptionError(f"Line {number} of {path} has no prompt after {name + ':'!r}")
        if name:
            own[name].append(prompt)
        elif _PLACE in prompt:
            templates.append(prompt)
        elif prompt:
            raise OptionError(_explain(path, number, line, class_names))
    lacking = [name for name in class_names if not own[name] and not templates]
    if lacking:
        shown = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} others" if lacking[3:] else "")
        raise OptionError(
            f"{path} has no prompt for {shown}. Add lines 'class: prompt', or a template for all, such as "
            "'a photo of a {}.'"
        )
    return [tuple(_fill(own[name] or templates, name)) for name in class_names]


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise OptionError(f"{path} is not a text in UTF-8: {error}. Save it as UTF-8") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(
            "--prompts takes a file, or a template with {} for the name of a class, such as 'a photo of a "
            f"{{}}.'. Received: {str(path)!r} ({reason})"
        ) from error


def _class_of(line: str, class_names: Iterable[str]) -> str:
    """The class that a line "class: prompt" is of; "" for another line. A name may have a colon itself."""
    plain = nfc(line)
    found = [name for name in class_names if plain.startswith(f"{nfc(name)}:")]
    return max(found, key=len, default="")


def _fill(prompts: Iterable[str], name: str) -> list[str]:
    return [prompt.replace(_PLACE, name.replace("_", " ")) for prompt in prompts]


def _explain(path: Path, number: int, line: str, class_names: Sequence[str]) -> str:
    name, colon, _ = line.partition(":")
    if colon:
        near = closest(name, class_names)
        return f"Line {number} of {path} is of a class {name!r}, which there is not. The closest are: {near}"
    return (
        f"Line {number} of {path} is neither a template with {{}} for the name of a class nor "
        f"'class: prompt': {line!r}"
    )

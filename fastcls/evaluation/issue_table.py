"""The folder of an audit: issues.csv, which a person edits, and audit.json."""

from __future__ import annotations

import itertools
from pathlib import Path

from fastcls import files
from fastcls.cache.corrections import COLUMNS
from fastcls.data.csv_table import write_table
from fastcls.evaluation.auditing import Audit, Issue
from fastcls.tasks import Task

ISSUES, REPORT = "issues.csv", "audit.json"
_ROOT = "audits"


def new_folder(name: str) -> Path:
    """A folder in `audits` that is not there yet, by the name of a data set."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder for folder in (Path(_ROOT) / each for each in names) if not folder.exists())


def require_new(folder: Path) -> None:
    """Raise OptionError for a folder that is there, or cannot be made: before the work begins."""
    if folder.exists() or folder.is_symlink():
        raise files.is_taken(folder)
    files.require_writable(folder)


def write_audit(found: Audit, folder: Path) -> None:
    """Write the tables of an audit into a new folder, which appears whole.

    Raises:
        OptionError: The folder is there already.
    """
    require_new(folder)
    task = found.features.task
    with files.atomic_folder(folder) as temporary:
        write_table(temporary / ISSUES, COLUMNS, (_line(issue, task) for issue in found.issues))
        files.write_json(temporary / REPORT, found.to_dict())


def _line(issue: Issue, task: Task) -> tuple[str, ...]:
    has_suggestion = bool(issue.suggested) or "label" in issue.kind
    return (
        *(issue.path, issue.kind, f"{issue.score:.4f}", task.write_cell(issue.given)),
        task.write_cell(issue.suggested) if has_suggestion else "",
        *(issue.other, issue.split, issue.other_split, "", issue.digest),
    )

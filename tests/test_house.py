"""How large the parts of the package may grow."""

import ast
from pathlib import Path

import pytest

import fastcls

PACKAGE = Path(fastcls.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MODULE_LINES, BODY_LINES = 400, 40


def body_lines(function):
    """Lines of a function without its signature and docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_and_functions_stay_small(path):
    source = path.read_text(encoding="utf-8")
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    assert len(source.splitlines()) <= MODULE_LINES
    assert {f.name: body_lines(f) for f in functions if body_lines(f) > BODY_LINES} == {}

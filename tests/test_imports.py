"""Who may import whom, and what must not load TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastcls

PACKAGE = Path(__file__).parents[1] / "fastcls"
# A module belongs to the floor of the longest name that it begins with.
FLOORS = {
    "fastcls": 0,  # names only, resolved on first use
    "fastcls.archives": 0,
    "fastcls.errors": 0,
    "fastcls.specs": 0,
    "fastcls.files": 0,
    "fastcls.garbage": 0,
    "fastcls.home": 0,
    "fastcls.unfinished": 0,
    "fastcls.interrupts": 0,
    "fastcls.machine": 0,
    "fastcls.optional": 0,
    "fastcls.parallel": 0,
    "fastcls.processes": 0,
    "fastcls.published": 0,
    "fastcls.records": 0,
    "fastcls.sizes": 0,
    "fastcls.storage": 0,
    "fastcls.backend": 0,
    "fastcls.tasks": 0,
    "fastcls.web": 0,
    "fastcls.wording": 0,
    "fastcls.data": 1,
    "fastcls.cache": 1,
    "fastcls.graph": 2,
    "fastcls.bases": 2,
    "fastcls.cutter": 2,
    "fastcls.engines": 2,
    "fastcls.pooling": 2,
    "fastcls.extraction": 3,
    "fastcls.derived_runs": 3,
    "fastcls.metrics_record": 3,
    "fastcls.run_record": 3,
    "fastcls.runs": 3,
    "fastcls.training": 3,
    "fastcls.exporting": 3,
    "fastcls.used_images": 3,
    "fastcls.inference": 3,
    "fastcls.evaluation": 3,
    "fastcls.comparison": 4,
    "fastcls.caching": 4,
    "fastcls.calibrator": 4,
    "fastcls.epochs": 4,
    "fastcls.suggester": 4,
    "fastcls.pipeline": 4,
    "fastcls.plans": 4,
    "fastcls.report": 4,
    "fastcls.doctor": 4,
    "fastcls.inventory": 4,
    "fastcls.summary": 4,
    "fastcls.serving": 5,
    "fastcls.cli": 5,
    "fastcls.__main__": 5,
}
LIGHT_FLOORS = (0, 1)
HEAVY = ("tensorflow", "keras", "tf_keras")


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def floor(module):
    names = [
        name for name in FLOORS if module == name or (name != "fastcls" and module.startswith(f"{name}."))
    ]
    assert module == "fastcls" or names, f"{module} is on no floor: add it to FLOORS"
    return FLOORS[max(names, key=len)]


def executed(node):
    """A syntax tree without what only type checkers see."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from executed(child)


def imported(module):
    """Modules of fastcls that a module imports, at its top or inside its functions."""
    for node in executed(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in inside]
        else:
            continue
        yield from (name for name in names if name in MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_from_its_own_floor_or_a_lower_one(module):
    higher = [name for name in imported(module) if floor(name) > floor(module)]
    assert not higher


def test_modules_do_not_import_each_other_in_circles():
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for name in imported(module):
                visit(name, [*path, module])
            done.add(module)

    for module in MODULES:
        visit(module, [])


def loaded_by(code):
    """Which heavy packages a Python process has loaded after some code."""
    script = f"""
import atexit, sys

@atexit.register
def tell():
    for name in {HEAVY}:
        if name in sys.modules:
            print(name, file=sys.stderr)

{code}
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stderr.split()


def test_light_floors_and_evaluation_load_no_tensorflow():
    light = [
        module
        for module in MODULES
        if floor(module) in LIGHT_FLOORS or "evaluation" in module or "report" in module
    ]
    names = "fastcls.bases.registry", "fastcls.extraction.planner", "fastcls.extraction.worker"
    assert loaded_by("\n".join(f"import {module}" for module in [*light, *names])) == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["bases"], ["runs", "tests"], ["extract", "--help"]], ids=str
)
def test_commands_that_only_tell_load_no_tensorflow(arguments):
    run = f"import sys; sys.argv[1:] = {arguments}\nfrom fastcls.cli.main import main\nmain()"
    assert loaded_by(run) == []


def test_help_loads_no_numpy():
    run = "import sys; sys.argv[1:] = ['--help']\nfrom fastcls.cli.main import main\ntry: main()\nfinally: "
    result = subprocess.run(
        [sys.executable, "-c", f"{run}print('numpy' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "False"


def test_heavy_packages_are_seen():
    code = "import sys\nfrom fastcls.backend import import_keras\nimport_keras()\nsys.exit(0)"
    assert loaded_by(code) == ["tensorflow", "keras"]


def test_type_checkers_see_the_same_names_as_users():
    body = ast.parse(MODULES["fastcls"].read_text()).body
    (block,) = [n for n in body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == fastcls._HOMES
    assert fastcls.__all__ == ["__version__", *fastcls._HOMES]

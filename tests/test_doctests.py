"""Examples in docstrings do what they show."""

import doctest
import importlib
import pkgutil

import pytest

import fastcls

MODULES = [
    module.name
    for module in pkgutil.walk_packages(fastcls.__path__, "fastcls.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) > 10

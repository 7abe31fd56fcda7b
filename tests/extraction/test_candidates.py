"""The list of engines to try, made without any of them."""

import pytest

from fastcls.errors import OptionError
from fastcls.extraction.engine_choice import Asked, Candidate, Machine, candidates
from fastcls.specs import ENGINES


def machine_of(*names, has_gpu=False):
    """A machine that can run "engine precision" for each name; "tensorflow" is the one that uses GPUs."""
    able = [Candidate(*name.split(), "", "tensorflow" in name, "openvino" in name) for name in names]
    return Machine(has_gpu, tuple(able))


ALL = machine_of(*(f"{engine} {precision}" for engine in ENGINES for precision in ENGINES[engine]))


@pytest.mark.parametrize(
    ("asked", "machine", "expected"),
    [
        (
            Asked(),
            machine_of("openvino float32", "tensorflow float32"),
            ["openvino in float32", "tensorflow in float32"],
        ),
        (
            Asked(),
            machine_of("openvino float16", "tensorflow float16", "tensorflow float32", has_gpu=True),
            ["tensorflow in float16", "openvino in float16", "tensorflow in float32"],
        ),
        (
            Asked(begun=("float32",)),
            machine_of("openvino bfloat16", "openvino float32"),
            ["openvino in float32", "openvino in bfloat16"],
        ),
        (Asked("openvino", "float32"), ALL, ["openvino in float32", "tensorflow in float32 (stands in)"]),
        (Asked("tensorflow", "float32"), ALL, ["tensorflow in float32"]),
        (Asked("auto", "int8"), ALL, ["openvino in int8"]),
        (Asked("tensorflow", "int8"), ALL, []),
        (Asked("a:B"), Machine(able=(Candidate("a:B", "float32", "a:B"),)), ["a:B in float32"]),
    ],
)
def test_candidates__are_ordered_by_precision_then_engine(asked, machine, expected):
    able = candidates(asked, machine)
    assert [f"{candidate}{' (stands in)' * candidate.stands_in}" for candidate in able] == expected


def test_candidates__are_not_mixed_from_caches_of_two_precisions():
    with pytest.raises(OptionError, match="different precisions: bfloat16 and float32"):
        candidates(Asked(begun=("bfloat16", "float32")), ALL)

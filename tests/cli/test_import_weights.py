import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.registry import ARCHITECTURES, build


def lenet_state():
    """LeNet-5 for digits, under the names of the paper."""
    import_keras()
    model = build(ARCHITECTURES["lenet5"], (32, 32), None, include_top=True)
    state = {}
    for layer in model.layers:
        for weight in layer.weights:
            value = weight.numpy()
            value = value.transpose(*range(value.ndim)[::-1]) if value.ndim == 2 else value
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
            name = "weight" if weight.name == "kernel" else "bias"
            state[f"{layer.name}.{name}"] = np.ascontiguousarray(value)
    return state


@pytest.fixture
def state_file(tmp_path, monkeypatch):
    numpy = pytest.importorskip("safetensors.numpy")
    monkeypatch.chdir(tmp_path)
    numpy.save_file(lenet_state(), tmp_path / "lenet.safetensors")
    return "lenet.safetensors"


def test_import_weights__then_layers_with_them(fastcls, state_file, tmp_path):
    result = fastcls("import-weights", "LeNet-5", state_file)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "lenet5: all 10 tensors placed, named as torch; classifier of 10 classes",
        "Written to lenet5.weights.h5",
        "Next: fastcls extract DATA --base lenet5 --weights lenet5.weights.h5",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [state_file, "lenet5.weights.h5"]
    assert fastcls("layers", "lenet5", "--weights", "lenet5.weights.h5").code == 0
    assert fastcls("import-weights", "lenet5", state_file).out == result.out  # the same file is there
    (tmp_path / "lenet5.weights.h5").write_bytes(b"another")
    again = fastcls("import-weights", "lenet5", state_file)
    assert again.code == 1 and "lenet5.weights.h5 already exists" in again.err
    assert (tmp_path / "lenet5.weights.h5").read_bytes() == b"another"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lenet", "missing.pth"], "Expected an existing .pth, .pt, .bin or .safetensors file"),
        (["resnet19", "x.pth"], "Unknown base: 'resnet19'. The closest names are resnet18, "),
        (["resnet50", "x.pth"], "resnet50 is built by Keras"),
        (["lenet5", "{}", "--out", "w.h5"], "Expected a name ending in .weights.h5 or .keras as --out"),
        (["squeezenet", "{}"], "does not hold the weights of SqueezeNet1_1"),
    ],
)
def test_import_weights__explains_what_is_wrong(arguments, message, fastcls, state_file, tmp_path):
    result = fastcls("import-weights", *(argument.format(state_file) for argument in arguments))
    assert result.code == 1 and message in result.err and "Traceback" not in result.err
    assert [path.name for path in tmp_path.iterdir()] == [state_file]


def test_extract__refuses_a_base_without_weights(fastcls, photos, tmp_path):
    result = fastcls("extract", photos, "--base", "resnet18", "--cache", tmp_path / "caches")
    assert result.code == 1
    assert "no weights of resnet18 to download" in result.err and "--weights random" in result.err
    assert not list(tmp_path.iterdir())

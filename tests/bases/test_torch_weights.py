"""State dicts become Keras weights: each tensor used once, or a clear error and no file."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from fastcls.backend import import_keras
from fastcls.bases.loader import load_base
from fastcls.bases.registry import ARCHITECTURES, build
from fastcls.bases.torch_weights import (
    _to_keras,
    convert,
    import_weights,
    read_state,
    rename_layers,
    sources_of,
)
from fastcls.errors import MissingExtraError, OptionError
from fastcls.specs import BaseSpec

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "weights"
SQUEEZENET = ARCHITECTURES["squeezenet1_1"]
TENSORS = {
    **{"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}


def to_torch(value, layer):
    """A kernel as torch has it, by the meaning of each axis."""
    if value.ndim == 2:
        return np.einsum("io->oi", value)
    if type(layer).__name__ == "DepthwiseConv2D":
        return np.einsum("hwim->imhw", value).reshape(-1, 1, *value.shape[:2])
    return np.einsum("hwio->oihw", value)


def state_of(architecture, model, source, values=lambda weight: weight.numpy()):
    rename = rename_layers(architecture, source)
    state = {}
    for layer in model.layers:
        for weight in layer.weights:
            value = values(weight)
            value = to_torch(value, layer) if weight.name == "kernel" else value
            name = f"{rename(layer.name)}.{TENSORS[weight.name]}"
            assert name not in state
            state[name] = value
            if weight.name == "moving_mean":
                state[f"{rename(layer.name)}.num_batches_tracked"] = np.array(3.0, "float32")
    return state


def randomized(architecture, *, size=(64, 64), classes=None, include_top=True):
    model = build(architecture, size, None, include_top=include_top, classes=classes)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.uniform(0.1, 1.0, weight.shape))
    return model


@pytest.fixture(scope="module")
def squeezenet():
    """SqueezeNet 1.1 for seven classes and its state dict."""
    model = randomized(SQUEEZENET, classes=7)
    return model, state_of(SQUEEZENET, model, "torchvision squeezenet1_1")


def save(state, path):
    pytest.importorskip("safetensors.numpy").save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}, path
    )
    return path


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "seresnet50", "squeezenet1_0"])
def test_convert__fills_every_weight(name):
    architecture = ARCHITECTURES[name]
    model = randomized(architecture, size=(architecture.side,) * 2, classes=5)
    source = sources_of(architecture)[0]
    imported = convert(architecture, state_of(architecture, model, source), "file")
    assert (imported.source, imported.classes) == (source, 5)
    assert imported.tensors == len(model.weights)
    for ours, theirs in zip(imported.model.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    import_keras().backend.clear_session()


@pytest.mark.parametrize("groups", [1, 2])
def test_to_keras__convolution_computes_what_torch_does(groups):
    """Checked against the definition: sums over windows, kernel (out, in / groups, height, width)."""
    layers = import_keras().layers
    random = np.random.default_rng(0)
    kernel = random.normal(size=(4, 6 // groups, 3, 2)).astype("float32")
    images = random.normal(size=(1, 5, 5, 6)).astype("float32")
    layer = layers.Conv2D(4, (3, 2), groups=groups, use_bias=False)
    layer.build(images.shape)
    layer.kernel.assign(_to_keras(kernel, layer))
    width = 6 // groups
    expected = np.zeros((1, 3, 4, 4))
    for out in range(4):
        first = out // (4 // groups) * width
        for y in range(3):
            for x in range(4):
                window = images[0, y : y + 3, x : x + 2, first : first + width]
                expected[0, y, x, out] = (window.transpose(2, 0, 1) * kernel[out]).sum()
    np.testing.assert_allclose(layer(images).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_to_keras__depthwise_convolution_computes_what_torch_does(multiplier):
    layers = import_keras().layers
    random = np.random.default_rng(0)
    kernel = random.normal(size=(3 * multiplier, 1, 3, 2)).astype("float32")
    images = random.normal(size=(1, 3, 2, 3)).astype("float32")
    layer = layers.DepthwiseConv2D((3, 2), depth_multiplier=multiplier, use_bias=False)
    layer.build(images.shape)
    layer.kernel.assign(_to_keras(kernel, layer))
    expected = [(images[0, :, :, out // multiplier] * kernel[out, 0]).sum() for out in range(3 * multiplier)]
    np.testing.assert_allclose(layer(images).numpy().ravel(), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1, 1)])
def test_to_keras__dense_layer_also_from_a_convolution(shape):
    layer = import_keras().layers.Dense(2)
    kernel = np.arange(6.0).reshape(shape)
    np.testing.assert_array_equal(_to_keras(kernel, layer), kernel.reshape(2, 3).T)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_import_weights__makes_a_file_for_the_base(suffix, prefix, squeezenet, tmp_path):
    model, state = squeezenet
    path = save({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "s.safetensors")
    out = tmp_path / f"made{suffix}"
    assert import_weights("squeezenet", path, out).classes == 7
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [out.name, path.name]
    base = load_base(BaseSpec("squeezenet", weights=str(out), size=(64, 64)))
    for ours, theirs in zip(base.model.weights, model.weights, strict=False):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_import_weights__without_classifier(squeezenet, tmp_path):
    state = {name: tensor for name, tensor in squeezenet[1].items() if "classifier" not in name}
    out = tmp_path / "made.weights.h5"
    imported = import_weights("squeezenet1_1", save(state, tmp_path / "s.safetensors"), out)
    assert imported.classes is None
    assert len(load_base(BaseSpec("squeezenet1_1", weights=str(out), size=(64, 64))).model.weights) == 50


def changed(state, **changes):
    state = dict(state)
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    return state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features__0__bias": None}, r"1 missing \(features.0.bias\)"),
        ({"extra__weight": np.zeros(3)}, r"1 unknown \(extra.weight\)"),
        (
            {"features__0__weight": np.zeros((64, 1, 3, 3))},
            r"1 of another shape \(features.0.weight is 3x3x1x64 instead of 3x3x3x64 in the order of Keras\)",
        ),
        ({"features__0__weight": np.zeros((64, 27))}, r"1 of another shape \(features.0.weight is 64x27"),
        ({"features__0__weight": None, "conv1__weight": np.zeros(3)}, r"1 missing .*; 1 unknown \(conv1"),
    ],
)
def test_convert__says_what_does_not_match(changes, message, squeezenet):
    with pytest.raises(OptionError, match=rf"file does not hold the weights of SqueezeNet1_1.*{message}"):
        convert(SQUEEZENET, changed(squeezenet[1], **changes), "file")


def test_convert__refuses_another_architecture(squeezenet):
    with pytest.raises(OptionError, match=r"SqueezeNet1_0 as torchvision squeezenet1_0 .*Name the base that"):
        convert(ARCHITECTURES["squeezenet1_0"], squeezenet[1], "file")


def test_convert__refuses_the_other_se_resnet():
    """timm's seresnet50 has layers of the same shapes, but its strides are elsewhere."""
    architecture = ARCHITECTURES["seresnet50"]
    with import_keras().StatelessScope(initialize_variables=False):
        model = build(architecture, (64, 64), None, include_top=True)
    state = state_of(architecture, model, "timm legacy_seresnet50", lambda weight: np.zeros(weight.shape))
    renamed = {
        name.removeprefix("layer0.").replace("se_module", "se").replace("last_linear", "fc"): tensor
        for name, tensor in state.items()
    }
    with pytest.raises(OptionError, match=r"SEResNet50 as timm legacy_seresnet50.* missing "):
        convert(architecture, renamed, "file")
    import_keras().backend.clear_session()


def test_import_weights__nothing_is_left_of_a_failed_write(squeezenet, tmp_path, monkeypatch):
    path = save(squeezenet[1], tmp_path / "s.safetensors")
    monkeypatch.setattr(import_keras().Model, "save_weights", lambda *_: os.close(-1))
    with pytest.raises(OSError):
        import_weights("squeezenet", path, tmp_path / "made.weights.h5")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["missing.pth", "notes.txt", "."])
def test_read_state__expects_a_state_dict_file(name, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(OptionError, match=r"existing .pth, .pt, .bin or .safetensors file.*Received: "):
        read_state(tmp_path / name)


def test_read_state__refuses_a_truncated_safetensors(squeezenet, tmp_path):
    path = save(squeezenet[1], tmp_path / "s.safetensors")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(OptionError, match=r"cannot be read as safetensors: .*truncated"):
        read_state(path)


@pytest.mark.parametrize(("suffix", "module"), [(".pth", "torch"), (".safetensors", "safetensors.numpy")])
def test_read_state__names_a_missing_extra(suffix, module, tmp_path, monkeypatch):
    (tmp_path / f"w{suffix}").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install {module.split('.')[0]}$"):
        read_state(tmp_path / f"w{suffix}")


class Code:
    """Unpickling this makes a file."""

    def __reduce__(self):
        return (open, ("executed", "w"))


def test_read_state__runs_no_code_from_a_pickle(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Code()))
    torch.save({"weight": torch.zeros(3), "code": Code()}, tmp_path / "torch.pth")
    for name in ("plain.pth", "torch.pth"):
        with pytest.raises(OptionError, match=r"cannot be read as a state dict: .*never run"):
            read_state(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_read_state__of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    state = {"a.weight": torch.arange(3, dtype=torch.float16), "a.bias": torch.ones(2, dtype=torch.bfloat16)}
    held = {
        "bare.pth": state,
        "old.pt": {"module." + name: tensor for name, tensor in state.items()},
        "checkpoint.bin": {"epoch": 3, "state_dict": state},
    }
    for name, value in held.items():
        torch.save(value, tmp_path / name, _use_new_zipfile_serialization=name != "old.pt")
        read = read_state(tmp_path / name)
        assert {key: (tensor.dtype, tensor.tolist()) for key, tensor in read.items()} == {
            "a.weight": (np.float32, [0, 1, 2]),
            "a.bias": (np.float32, [1, 1]),
        }


@pytest.mark.parametrize("value", [3, {"epoch": 3}, {}])
def test_read_state__refuses_what_is_no_state_dict(value, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(OptionError, match=r"holds no state dict.* Received: "):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_read_state__refuses_a_truncated_file(kept, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    with pytest.raises(OptionError, match=r"cannot be read as a state dict: .*truncated"):
        read_state(tmp_path / "w.pth")


@pytest.mark.skipif(not SHARED.exists(), reason="the pretrained weights are not there")
def test_squeezenet__real_weights_give_the_same_classes():
    keras = import_keras()
    path = SHARED / "squeezenet_v1.1_onnxzoo_with_top.keras"
    original = keras.saving.load_model(path)
    base = load_base(BaseSpec("squeezenet", weights=str(path), include_top=True))
    images = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")
    np.testing.assert_allclose(base.model(images), original(images), rtol=1e-5, atol=1e-7)

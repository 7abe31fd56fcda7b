"""Weights of PyTorch networks (torchvision, timm, facenet) for the same networks built by Keras.

Every tensor of the file goes to exactly one weight and every weight gets one, or nothing is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.backend import import_keras
from fastcls.bases.model_files import first_line
from fastcls.bases.registry import ARCHITECTURES, Architecture, build, find_architecture
from fastcls.errors import OptionError, closest
from fastcls.optional import require

State = dict[str, np.ndarray]

_TORCH_SUFFIXES = (".pth", ".pt", ".bin")
_OUT_SUFFIXES = (".weights.h5", ".keras")
_TENSORS = {
    **{"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}
_NO_WEIGHT = "num_batches_tracked"  # torch counts its training steps
_CONTAINERS = ("state_dict", "model", "model_state_dict")  # where checkpoints of training scripts have it
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
_SHOWN = 5


@dataclass(frozen=True)
class Imported:
    """A model with the weights of a state dict.

    Attributes:
        model: With its classifier, unless the file has none.
        source: Whose naming the file follows, and what the network is called there.
        tensors: How many tensors the weights came from.
        classes: Outputs of the classifier; None without one.
    """

    model: Any
    source: str
    tensors: int
    classes: int | None


@dataclass
class _Mismatch:
    """What keeps a state dict from being a network's."""

    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.missing) + len(self.unknown) + len(self.misshapen)

    def __str__(self) -> str:
        kinds = {"missing": self.missing, "unknown": self.unknown, "of another shape": self.misshapen}
        return "; ".join(f"{len(names)} {kind} ({_shorten(names)})" for kind, names in kinds.items() if names)


def import_weights(base: str, path: Path, out: Path) -> Imported:
    """Convert a state dict into a Keras file for a base; the file appears whole or not at all.

    Args:
        base: Name of the base.
        path: `.pth`, `.pt` or `.bin` file of torch, or `.safetensors`. Code in it is not run.
        out: `.weights.h5` or `.keras` file to make.

    Raises:
        OptionError: The base is unknown or Keras's own, the file is damaged or holds another network's
            weights, or `out` is there already with other content.
        MissingExtraError: The package that reads the file is not installed.
    """
    import_keras()  # before anything else does, without TensorFlow's chatter
    architecture = find_importable(base)
    if not out.name.endswith(_OUT_SUFFIXES):
        raise OptionError(f"Expected a name ending in {' or '.join(_OUT_SUFFIXES)} as --out. Received: {out}")
    if out.exists() and out.suffix == ".keras":  # it holds the time: nothing is the same again
        raise files.is_taken(out)
    files.require_writable(out.parent)
    imported = convert(architecture, read_state(path), str(path))
    with files.new_path(out) as temporary:
        write = imported.model.save if out.suffix == ".keras" else imported.model.save_weights
        write(temporary)
    return imported


def find_importable(name: str) -> Architecture:
    """The network of a name, if it is one whose PyTorch weights can be read.

    Raises:
        OptionError: There is none of that name, or Keras builds it in its own way.
    """
    ours = [known for known, row in ARCHITECTURES.items() if not row.is_keras]
    architecture = find_architecture(name)
    if architecture is None:
        raise OptionError(
            f"Unknown base: {name!r}. The closest names are {closest(name, ours)}; `fastcls bases` lists all"
        )
    if architecture.is_keras:
        raise OptionError(
            f"{name} is built by Keras, and not in all details as in PyTorch. Use its own weights, or a "
            f"file made by Keras: fastcls extract DATA --base {name} --weights imagenet|FILE. Weights are "
            f"imported for: {', '.join(ours)}"
        )
    return architecture


def read_state(path: Path) -> State:
    """The tensors of a state dict as float32; code in the file is not run.

    Raises:
        OptionError: There is no such file, it is damaged, or holds anything but tensors.
        MissingExtraError: torch or safetensors is not installed.
    """
    if not path.is_file() or path.suffix not in (*_TORCH_SUFFIXES, ".safetensors"):
        expected = ", ".join(_TORCH_SUFFIXES)
        raise OptionError(
            f"Expected an existing {expected} or .safetensors file with a state dict. Received: {path}"
        )
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def convert(architecture: Architecture, state: State, origin: str) -> Imported:
    """Build a network and fill it from a state dict.

    Args:
        architecture: Which network.
        state: Its tensors under the names of one of its sources.
        origin: What the state dict is called in messages.

    Raises:
        OptionError: Some tensor has no place, or some weight no tensor.
    """
    attempts = [_convert(architecture, state, source) for source in sources_of(architecture)]
    imported, mismatch = min(attempts, key=lambda attempt: len(attempt[1]))
    if len(mismatch):
        raise OptionError(
            f"{origin} does not hold the weights of {architecture.name} as {imported.source} has them. "
            f"Tensors: {mismatch}. Nothing was written. Name the base that the file was made for; "
            "`fastcls bases` lists all"
        )
    return imported


def sources_of(architecture: Architecture) -> tuple[str, ...]:
    """Whose namings of a network are known."""
    module = importlib.import_module(architecture.module)
    return architecture.published or tuple(module.SOURCES)


def rename_layers(architecture: Architecture, source: str) -> Callable[[str], str]:
    """The function from the name of a layer of ours to the name of a source's module."""
    known: dict[str, Callable[[str], str]] = importlib.import_module(architecture.module).SOURCES
    return known[max((name for name in known if source.startswith(name)), key=len)]


def _convert(architecture: Architecture, state: State, source: str) -> tuple[Imported, _Mismatch]:
    rename = rename_layers(architecture, source)
    size = (architecture.side, architecture.side)
    model = build(architecture, size, None, include_top=True)
    classifier = [layer for layer in model.layers if layer.weights][-1]
    tensor = state.get(f"{rename(classifier.name)}.weight")
    classes = len(tensor) if tensor is not None and tensor.ndim else None
    if classes != model.output_shape[-1]:
        model = build(architecture, size, None, include_top=bool(classes), classes=classes)
    used, mismatch = _fill(model, state, rename)
    return Imported(model, source, used, classes), mismatch


def _fill(model: Any, state: State, rename: Callable[[str], str]) -> tuple[int, _Mismatch]:
    mismatch = _Mismatch()
    left = {name for name in state if not name.endswith(_NO_WEIGHT)}
    total = len(left)
    for name, layer, weight in _wanted(model, rename):
        if name not in left:
            mismatch.missing.append(name)
            continue
        left.remove(name)
        value = _to_keras(state[name], layer) if weight.name == "kernel" else state[name]
        if value.shape != tuple(weight.shape):
            held, wanted = "x".join(map(str, value.shape)), "x".join(map(str, weight.shape))
            mismatch.misshapen.append(f"{name} is {held} instead of {wanted} in the order of Keras")
            continue
        weight.assign(value)
    mismatch.unknown.extend(sorted(left))
    return total - len(left), mismatch


def _wanted(model: Any, rename: Callable[[str], str]) -> Iterator[tuple[str, Any, Any]]:
    for layer in model.layers:
        for weight in layer.weights:
            yield f"{rename(layer.name)}.{_TENSORS[weight.name]}", layer, weight


def _to_keras(kernel: np.ndarray, layer: Any) -> np.ndarray:
    """A kernel with its axes as Keras orders them."""
    kind = type(layer).__name__
    if kind == "Dense":  # (out, in), or (out, in, 1, 1) where torch has a convolution
        return kernel.reshape(kernel.shape[:2]).T if kernel.shape[2:] in ((), (1, 1)) else kernel
    if kernel.ndim != 4:
        return kernel
    if kind == "DepthwiseConv2D":  # (maps * multiplier, 1, height, width)
        split = kernel.reshape(-1, layer.depth_multiplier, *kernel.shape[2:])
        return split.transpose(2, 3, 0, 1)
    return kernel.transpose(2, 3, 1, 0)  # (out, in, height, width), whatever the groups


def _read_torch(path: Path) -> State:
    torch = require("torch", purpose=f"Reading {path.suffix} files")
    try:
        # Only tensors and plain containers are unpickled, never a class or a function.
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail anywhere: in zip, pickle, or in torch's own code
        raise OptionError(
            f"{path} cannot be read as a state dict: {first_line(error)}. It may be truncated, or hold code "
            "besides tensors, which is never run. Save tensors alone: torch.save(model.state_dict(), PATH)"
        ) from error
    state = _find_state(torch, held)
    if not state:
        raise OptionError(
            f"{path} holds no state dict: expected tensors by name. Received: {type(held).__name__}"
        )
    return {name: tensor.detach().float().numpy() for name, tensor in state.items()}


def _find_state(torch: Any, held: Any) -> dict[str, Any]:
    if not isinstance(held, dict):
        return {}
    if all(isinstance(value, torch.Tensor) for value in held.values()):
        return held
    inner = [held[name] for name in _CONTAINERS if isinstance(held.get(name), dict)]
    return _find_state(torch, inner[0]) if inner else {}


def _read_safetensors(path: Path) -> State:
    numpy = require("safetensors.numpy", purpose="Reading .safetensors files")
    try:
        return {name: np.asarray(tensor, "float32") for name, tensor in numpy.load_file(path).items()}
    except Exception as error:  # an error class of its own, or numpy's for types that it lacks
        raise OptionError(
            f"{path} cannot be read as safetensors: {first_line(error)}. It may be truncated"
        ) from error


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

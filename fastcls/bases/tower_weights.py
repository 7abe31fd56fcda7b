"""How the towers of models of images and texts get their weights from a folder of Hugging Face.

Every tensor of a tower goes to one weight and every weight gets one, or nothing is loaded.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from fastcls import files
from fastcls.bases.model_files import first_line
from fastcls.errors import OptionError
from fastcls.optional import require
from fastcls.wording import some_of

State = dict[str, np.ndarray]
WEIGHTS = "model.safetensors"
_SHOWN = 5
_NUMBERS = "position_ids"  # of positions, which follow from their count


@dataclass(frozen=True)
class Family:
    """How a tower is built and filled.

    Attributes:
        encoder: Its class in keras_hub.
        defaults: What transformers leaves out of a configuration.
        activations: Those of transformers, as keras_hub calls them.
        prefix_tokens: Tokens before those of the patches.
        names: Layers and variables of the encoder, as the file names them.
        block: The same inside of a block.
    """

    encoder: str
    defaults: Mapping[str, Any]
    activations: Mapping[str, str]
    prefix_tokens: int
    names: Mapping[str, str]
    block: Mapping[str, str]

    def require_known(self, folder: Path, said: Mapping[str, Any]) -> None:
        """Raise OptionError for a configuration that keras_hub's layers are not made for."""
        epsilon = self.defaults["layer_norm_eps"]
        if said["hidden_act"] not in self.activations or not math.isclose(said["layer_norm_eps"], epsilon):
            expected = f"hidden_act {' or '.join(self.activations)} and layer_norm_eps {epsilon}"
            raise OptionError(
                f"{folder / 'config.json'} has hidden_act={said['hidden_act']!r} and "
                f"layer_norm_eps={said['layer_norm_eps']}. keras_hub's {self.encoder} has {expected} only"
            )

    def build(self, hub: Any, folder: Path, said: Mapping[str, Any], **options: Any) -> Any:
        """The tower of a configuration, with random weights.

        Args:
            hub: The module keras_hub.
            folder: That it is of.
            said: The configuration, with its defaults.
            options: What else the class takes.

        Raises:
            OptionError: keras_hub cannot build it.
        """
        self.require_known(folder, said)
        try:
            return getattr(hub.models, self.encoder)(
                hidden_dim=said["hidden_size"],
                num_layers=said["num_hidden_layers"],
                num_heads=said["num_attention_heads"],
                intermediate_dim=said["intermediate_size"],
                intermediate_activation=self.activations[said["hidden_act"]],
                **options,
            )
        except (TypeError, ValueError) as error:
            raise OptionError(f"keras_hub cannot build the model of {folder}: {first_line(error)}") from error

    def fill(
        self,
        tower: Any,
        state: State,
        folder: Path,
        resized: Callable[[np.ndarray, int], np.ndarray] = lambda positions, count: positions,
    ) -> None:
        """Give a tower its weights.

        Args:
            tower: What `build` made.
            state: Its tensors, by the names that this table has. It is emptied.
            folder: Where they are of.
            resized: (positions (P, C), number of those that the tower has) -> these.

        Raises:
            OptionError: Tensors are missing, left over, or of another shape.
        """
        wrong = []
        for owner, path, name in self._places(tower):
            part = attrgetter(path)(owner)
            wanted = part.get_weights() if hasattr(part, "get_weights") else [np.asarray(part)]
            try:
                arrays = [array for array in _arrays(part, name, state) if array is not None]
                if "position_embedding" in path:
                    arrays = [resized(arrays[0], len(wanted[0]))]
                arrays = [array.reshape(old.shape) for array, old in zip(arrays, wanted, strict=True)]
            except KeyError as error:
                wrong.append(f"{error.args[0]} is missing")
                continue
            except ValueError:
                wrong.append(f"{name} has another shape")
                continue
            if hasattr(part, "set_weights"):
                part.set_weights(arrays)
            else:
                part.assign(arrays[0])
        refuse(folder, self.encoder, [*wrong, *(f"{name} has no place" for name in state)])

    def _places(self, tower: Any) -> Iterator[tuple[Any, str, str]]:
        """What has each layer and variable of a tower, where it has it, and what a file calls it."""
        for path, name in self.names.items():
            yield tower, path, name
        for number, block in enumerate(tower.encoder_layers):
            for path, name in self.block.items():
                yield block, path, f"encoder.layers.{number}.{name}"


def refuse(folder: Path, encoder: str, wrong: list[str]) -> None:
    """Raise OptionError where something is wrong with the tensors of a tower."""
    if wrong:
        raise OptionError(
            f"{folder / WEIGHTS} does not hold the weights of a {encoder} of its config.json: "
            f"{some_of(wrong, _SHOWN)}"
        )


def tensor_names(folder: Path) -> list[str]:
    """The names of all tensors in a folder, but of numbers of positions."""
    return [name for name, _ in _tensors(folder, lambda name: False)]


def read_tensors(folder: Path, is_wanted: Callable[[str], bool]) -> State:
    """The tensors of some names as float32."""
    return {name: array for name, array in _tensors(folder, is_wanted) if array is not None}


def _tensors(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, np.ndarray | None]]:
    """The name of each tensor, and its values where they are wanted."""
    safetensors = require("safetensors", purpose="Reading a folder of Hugging Face")
    for path in _weight_files(folder):
        with _open(safetensors, path) as file:
            for name in list(file.keys()):
                if not name.endswith(_NUMBERS):
                    yield name, file.get_tensor(name).astype(np.float32) if is_wanted(name) else None


@contextlib.contextmanager
def _open(safetensors: Any, path: Path) -> Iterator[Any]:
    try:
        with safetensors.safe_open(path, framework="np") as file:
            yield file
    except (OSError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise OptionError(f"{path} is damaged: {first_line(error)}") from error


def _weight_files(folder: Path) -> list[Path]:
    """The file of a model, or the several that it is divided into."""
    whole, index = folder / WEIGHTS, folder / f"{WEIGHTS}.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise OptionError(f"{folder} has no {whole.name}. Expected the folder of one model, with its weights")
    try:
        parts = sorted({folder / name for name in files.read_json(index)["weight_map"].values()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OptionError(f"{index} is damaged: {type(error).__name__}: {error}") from error
    lacking = [path.name for path in parts if not path.is_file()]
    if lacking:
        raise OptionError(f"{folder} lacks {', '.join(lacking)}, which {index.name} names")
    return parts


def _arrays(part: Any, name: str, state: State) -> list[np.ndarray | None]:
    """The tensors of a layer or variable, taken from a state, in the order and axes of its weights."""
    from keras import layers

    if isinstance(part, layers.MultiHeadAttention):
        return _attention(name, state)
    if not isinstance(part, layers.Layer):
        return [state.pop(name)]
    weight = state.pop(f"{name}.weight")
    if isinstance(part, layers.Conv2D):
        weight = weight.transpose(2, 3, 1, 0)
    elif isinstance(part, layers.Dense):
        weight = weight.T
    return [weight, state.pop(f"{name}.bias", None)]


def _attention(name: str, state: State) -> list[np.ndarray | None]:
    """Kernels and biases of query, key, value and output; PyTorch's own layer has three of them in one."""
    if f"{name}.in_proj_weight" in state:
        for kind in ("weight", "bias"):
            parts = np.split(state.pop(f"{name}.in_proj_{kind}"), 3)
            state |= {f"{name}.{role}_proj.{kind}": part for role, part in zip("qkv", parts, strict=True)}
    found: list[np.ndarray | None] = []
    for role in ("q_proj", "k_proj", "v_proj", "out_proj"):
        found += [state.pop(f"{name}.{role}.weight").T, state.pop(f"{name}.{role}.bias")]
    return found

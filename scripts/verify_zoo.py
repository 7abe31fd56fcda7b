"""Compare the networks in fastcls/bases/zoo with their PyTorch originals.

    pip install torch timm facenet-pytorch && python scripts/verify_zoo.py [BASE...]

Each original gets random weights and random batch-norm statistics. Its state dict goes through the code of
`fastcls import-weights`; then both networks see the same images at two sizes, in float64. SqueezeNet, LeNet-5
and ShuffleNetV2 are written out here, so that timm and facenet-pytorch are enough.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

from fastcls.backend import import_keras
from fastcls.bases.registry import Architecture, build, find_architecture
from fastcls.bases.torch_weights import convert
from fastcls.evaluation.text_table import format_table

LIMIT = 1e-4


class Fire(nn.Module):
    """A fire module of torchvision's SqueezeNet."""

    def __init__(self, maps: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(maps, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, maps, H, W) -> (B, 2 * expanded, H, W)."""
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(nn.Module):
    """torchvision's SqueezeNet."""

    def __init__(self, *features: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 1000)."""
        return self.classifier(self.features(x)).flatten(1)


def squeezenet1_0() -> nn.Module:
    """torchvision's squeezenet1_0."""
    return SqueezeNet(
        *(nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(), _pool()),
        *(Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), _pool()),
        *(Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), _pool()),
        Fire(512, 64, 256),
    )


def squeezenet1_1() -> nn.Module:
    """torchvision's squeezenet1_1."""
    return SqueezeNet(
        *(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), _pool()),
        *(Fire(64, 16, 64), Fire(128, 16, 64), _pool()),
        *(Fire(128, 32, 128), Fire(256, 32, 128), _pool()),
        *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    )


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


class LeNet5(nn.Module):
    """LeNet-5 with modules named as in the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c3, self.c5 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.Conv2d(16, 120, 5)
        self.f6, self.output = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 32, 32) -> (B, 10)."""
        x = nn.functional.avg_pool2d(self.c1(x).tanh(), 2)
        x = nn.functional.avg_pool2d(self.c3(x).tanh(), 2)
        return self.output(self.f6(self.c5(x).tanh().flatten(1)).tanh())


class ShuffleBlock(nn.Module):
    """A block of torchvision's ShuffleNetV2: half of the maps pass as they are, or all are made anew."""

    def __init__(self, maps: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = out // 2
        inside = maps if stride > 1 else half
        self.branch1 = nn.Sequential(
            *([*_depthwise(maps, stride), *_pointwise(maps, half)] if stride > 1 else [])
        )
        self.branch2 = nn.Sequential(
            *(*_pointwise(inside, half), *_depthwise(half, stride), *_pointwise(half, half))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, maps, H, W) -> (B, out, H', W'); the halves' maps alternate."""
        left, right = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        halves = torch.stack([self.branch1(left), self.branch2(right)], dim=2)
        return halves.flatten(1, 2)


class ShuffleNetV2(nn.Module):
    """torchvision's ShuffleNetV2."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )
        self.stage2 = _stage(24, widths[0], 4)
        self.stage3 = _stage(widths[0], widths[1], 8)
        self.stage4 = _stage(widths[1], widths[2], 4)
        self.conv5 = nn.Sequential(*_pointwise(widths[2], widths[3]))
        self.fc = nn.Linear(widths[3], 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 1000)."""
        x = nn.functional.max_pool2d(self.conv1(x), 3, 2, padding=1)
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        return self.fc(x.mean((2, 3)))


def _stage(maps: int, out: int, depth: int) -> nn.Module:
    return nn.Sequential(ShuffleBlock(maps, out, 2), *(ShuffleBlock(out, out, 1) for _ in range(depth - 1)))


def _depthwise(maps: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(maps, maps, 3, stride, padding=1, groups=maps, bias=False), nn.BatchNorm2d(maps)


def _pointwise(maps: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(maps, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()


def facenet() -> nn.Module:
    """The network of facenet-pytorch, with its classifier."""
    from facenet_pytorch import InceptionResnetV1

    return InceptionResnetV1(classify=True, num_classes=8631)


def densenet264() -> nn.Module:
    """timm's DenseNet in the depths of the paper."""
    return timm.models.DenseNet(growth_rate=32, block_config=(6, 12, 64, 48))


# The original of each base, and the heights and widths to compare at.
SIZES = ((224, 224), (161, 193))
REFERENCES: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[int, int], ...]]] = {
    "lenet5": (LeNet5, ((32, 32), (35, 34))),
    "squeezenet1_0": (squeezenet1_0, SIZES),
    "squeezenet1_1": (squeezenet1_1, SIZES),
    "resnet18": (lambda: timm.create_model("resnet18"), SIZES),
    "resnet34": (lambda: timm.create_model("resnet34"), SIZES),
    "resnext50_32x4d": (lambda: timm.create_model("resnext50_32x4d"), SIZES),
    "resnext101_32x4d": (lambda: timm.create_model("resnext101_32x4d"), SIZES),
    "resnext101_32x8d": (lambda: timm.create_model("resnext101_32x8d"), SIZES),
    "shufflenetv2_x0_5": (lambda: ShuffleNetV2(48, 96, 192, 1024), SIZES),
    "shufflenetv2_x1_0": (lambda: ShuffleNetV2(116, 232, 464, 1024), SIZES),
    "shufflenetv2_x1_5": (lambda: ShuffleNetV2(176, 352, 704, 1024), SIZES),
    "shufflenetv2_x2_0": (lambda: ShuffleNetV2(244, 488, 976, 2048), SIZES),
    "densenet264": (densenet264, SIZES),
    "inceptionv4": (lambda: timm.create_model("inception_v4"), ((299, 299), (171, 193))),
    "inceptionresnetv1": (facenet, ((160, 160), (171, 193))),
    "seresnet50": (lambda: timm.create_model("legacy_seresnet50"), SIZES),
    "seresnet101": (lambda: timm.create_model("legacy_seresnet101"), SIZES),
    "seresnet152": (lambda: timm.create_model("legacy_seresnet152"), SIZES),
}


def main() -> None:
    """Compare, print a table, exit 1 if any network differs."""
    parser = argparse.ArgumentParser(description="Compare the zoo with its PyTorch originals.")
    parser.add_argument("bases", nargs="*", choices=[[], *REFERENCES], help="which ones (all)")
    names = parser.parse_args().bases or list(REFERENCES)
    import_keras().config.set_floatx("float64")  # a deep chain of gates multiplies rounding errors
    rows = [["base", "parameters", "tensors", "size", "relative error", ""]]
    for name in names:
        rows += compare(name)
        print(format_table(rows[:1] + rows[-2:]), file=sys.stderr)
    print(format_table(rows))
    sys.exit(any(row[-1] == "DIFFERS" for row in rows))


def compare(name: str) -> list[list[str]]:
    """A row for each size: the largest difference of the logits over the largest logit."""
    architecture = find_architecture(name)
    assert architecture is not None
    create, sizes = REFERENCES[name]
    original = randomize(create())
    parameters = sum(tensor.numel() for tensor in original.parameters())
    state = {key: tensor.float().numpy() for key, tensor in original.state_dict().items()}
    imported = convert(architecture, state, name)
    rows = []
    for size in sizes:
        error = relative_error(original, resize(architecture, imported.model, size), size)
        figures = [f"{parameters:,}", str(imported.tensors), f"{size[0]}x{size[1]}", f"{error:.1e}"]
        rows.append([name, *figures, "equal" if error < LIMIT else "DIFFERS"])
    return rows


def randomize(network: Any) -> Any:
    """Weights that keep the scale of what passes; statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    return network.double().eval()


def resize(architecture: Architecture, model: Any, size: tuple[int, int]) -> Any:
    """The same network for images of another size, without the softmax."""
    import keras

    resized = build(architecture, size, None, include_top=True, classes=model.output_shape[-1])
    resized.set_weights(model.get_weights())
    last = resized.layers[-1]
    if isinstance(last, keras.layers.Activation):
        return keras.Model(resized.inputs, last.input)
    last.activation = keras.activations.linear
    return resized


def relative_error(original: Any, model: Any, size: tuple[int, int]) -> float:
    """Largest difference of the outputs for two random images, over the largest output."""
    images = np.random.default_rng(0).normal(size=(2, *size, 3))  # float64
    with torch.no_grad():
        expected = original(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    received = model(images, training=False).numpy()
    return float(np.abs(received - expected).max() / np.abs(expected).max())


if __name__ == "__main__":
    main()

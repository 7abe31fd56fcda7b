"""The bases that have a name: their input sizes, normalization and figures; how they are built."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastcls.backend import reproducible_build
from fastcls.errors import OptionError

KERAS = "keras.applications"


@dataclass(frozen=True)
class Architecture:
    """One network, without its classifier and with average pooling.

    Attributes:
        name: Its function in `module`; the base's name is this in lower case.
        side: Default height and width in pixels.
        normalize: Kind of normalization that its weights were trained with; "none" where the model
            carries its own.
        parameters: Number of parameters.
        output: Name of the last layer, the default cut.
        features: Length of the pooled bottleneck.
        license: License of its published weights; empty where there are none.
        module: Where its function is.
        published: Whose weights `fastcls import-weights` reads, and what they are called there; none
            for networks of Keras, which downloads its own.
    """

    name: str
    side: int
    normalize: str
    parameters: int
    output: str
    features: int
    license: str
    module: str = KERAS
    published: tuple[str, ...] = ()

    @property
    def is_keras(self) -> bool:
        """Whether Keras has it, and weights to download."""
        return self.module == KERAS


_ZOO = "fastcls.bases.zoo"
_BSD, _APACHE = "BSD-3-Clause", "Apache-2.0"

# The weights' licenses are those that the documentation of Keras, torchvision and timm states.
_ROWS = (
    Architecture("ConvNeXtBase", 224, "none", 87_566_464, "layer_normalization", 1024, "MIT"),
    Architecture("ConvNeXtLarge", 224, "none", 196_230_336, "layer_normalization", 1536, "MIT"),
    Architecture("ConvNeXtSmall", 224, "none", 49_454_688, "layer_normalization", 768, "MIT"),
    Architecture("ConvNeXtTiny", 224, "none", 27_820_128, "layer_normalization", 768, "MIT"),
    Architecture("ConvNeXtXLarge", 224, "none", 348_147_968, "layer_normalization", 2048, "MIT"),
    Architecture("DenseNet121", 224, "torch", 7_037_504, "avg_pool", 1024, "BSD-3-Clause"),
    Architecture("DenseNet169", 224, "torch", 12_642_880, "avg_pool", 1664, "BSD-3-Clause"),
    Architecture("DenseNet201", 224, "torch", 18_321_984, "avg_pool", 1920, "BSD-3-Clause"),
    Architecture("EfficientNetB0", 224, "none", 4_049_571, "avg_pool", 1280, "Apache-2.0"),
    Architecture("EfficientNetB1", 240, "none", 6_575_239, "avg_pool", 1280, "Apache-2.0"),
    Architecture("EfficientNetB2", 260, "none", 7_768_569, "avg_pool", 1408, "Apache-2.0"),
    Architecture("EfficientNetB3", 300, "none", 10_783_535, "avg_pool", 1536, "Apache-2.0"),
    Architecture("EfficientNetB4", 380, "none", 17_673_823, "avg_pool", 1792, "Apache-2.0"),
    Architecture("EfficientNetB5", 456, "none", 28_513_527, "avg_pool", 2048, "Apache-2.0"),
    Architecture("EfficientNetB6", 528, "none", 40_960_143, "avg_pool", 2304, "Apache-2.0"),
    Architecture("EfficientNetB7", 600, "none", 64_097_687, "avg_pool", 2560, "Apache-2.0"),
    Architecture("EfficientNetV2B0", 224, "none", 5_919_312, "avg_pool", 1280, "Apache-2.0"),
    Architecture("EfficientNetV2B1", 240, "none", 6_931_124, "avg_pool", 1280, "Apache-2.0"),
    Architecture("EfficientNetV2B2", 260, "none", 8_769_374, "avg_pool", 1408, "Apache-2.0"),
    Architecture("EfficientNetV2B3", 300, "none", 12_930_622, "avg_pool", 1536, "Apache-2.0"),
    Architecture("EfficientNetV2L", 480, "none", 117_746_848, "avg_pool", 1280, "Apache-2.0"),
    Architecture("EfficientNetV2M", 480, "none", 53_150_388, "avg_pool", 1280, "Apache-2.0"),
    Architecture("EfficientNetV2S", 384, "none", 20_331_360, "avg_pool", 1280, "Apache-2.0"),
    Architecture("InceptionResNetV2", 299, "tf", 54_336_736, "global_average_pooling2d", 1536, "Apache-2.0"),
    Architecture("InceptionV3", 299, "tf", 21_802_784, "global_average_pooling2d", 2048, "Apache-2.0"),
    Architecture("MobileNet", 224, "tf", 3_228_864, "global_average_pooling2d", 1024, "Apache-2.0"),
    Architecture("MobileNetV2", 224, "tf", 2_257_984, "global_average_pooling2d", 1280, "Apache-2.0"),
    Architecture("MobileNetV3Large", 224, "none", 2_996_352, "avg_pool", 960, "Apache-2.0"),
    Architecture("MobileNetV3Small", 224, "none", 939_120, "avg_pool", 576, "Apache-2.0"),
    Architecture("NASNetLarge", 331, "tf", 84_916_818, "global_average_pooling2d", 4032, "Apache-2.0"),
    Architecture("NASNetMobile", 224, "tf", 4_269_716, "global_average_pooling2d", 1056, "Apache-2.0"),
    Architecture("ResNet101", 224, "caffe", 42_658_176, "avg_pool", 2048, "MIT"),
    Architecture("ResNet101V2", 224, "tf", 42_626_560, "avg_pool", 2048, "BSD-3-Clause"),
    Architecture("ResNet152", 224, "caffe", 58_370_944, "avg_pool", 2048, "MIT"),
    Architecture("ResNet152V2", 224, "tf", 58_331_648, "avg_pool", 2048, "BSD-3-Clause"),
    Architecture("ResNet50", 224, "caffe", 23_587_712, "avg_pool", 2048, "MIT"),
    Architecture("ResNet50V2", 224, "tf", 23_564_800, "avg_pool", 2048, "BSD-3-Clause"),
    Architecture("VGG16", 224, "caffe", 14_714_688, "global_average_pooling2d", 512, "CC-BY-4.0"),
    Architecture("VGG19", 224, "caffe", 20_024_384, "global_average_pooling2d", 512, "CC-BY-4.0"),
    Architecture("Xception", 299, "tf", 20_861_480, "global_average_pooling2d", 2048, "MIT"),
    Architecture("LeNet5", 32, "torch", 50_992, "avg_pool", 120, "", f"{_ZOO}.lenet"),
    Architecture(
        *("InceptionV4", 299, "tf", 41_205_984, "avg_pool", 1536, _APACHE, f"{_ZOO}.inception_v4"),
        ("timm inception_v4.tf_in1k",),
    ),
    Architecture(
        # (pixel - 127.5) / 128, as FaceNet has it. Its parameters are counted up to the embedding.
        *("InceptionResNetV1", 160, "127.5,128", 23_512_224, "last_bn", 512, "MIT"),
        f"{_ZOO}.inception_resnet_v1",
        ("facenet vggface2", "facenet casia-webface"),
    ),
    *(
        Architecture(
            *(f"ShuffleNetV2_{width}", 224, "torch", parameters, "avg_pool", features, _BSD),
            f"{_ZOO}.shufflenet_v2",
            (f"torchvision shufflenet_v2_{width}",),
        )
        for width, parameters, features in (
            ("x0_5", 349_744, 1024),
            ("x1_0", 1_269_784, 1024),
            ("x1_5", 2_502_064, 1024),
            ("x2_0", 5_378_712, 2048),
        )
    ),
    Architecture("DenseNet264", 224, "torch", 31_047_232, "avg_pool", 2688, "", f"{_ZOO}.densenet"),
    *(
        Architecture(
            name, 224, "torch", parameters, "avg_pool", features, license, f"{_ZOO}.resnet", published
        )
        for name, parameters, features, license, published in (
            ("ResNet18", 11_186_112, 512, _BSD, ("torchvision resnet18",)),
            ("ResNet34", 21_301_696, 512, _BSD, ("torchvision resnet34",)),
            (
                "ResNeXt50_32x4d",
                23_048_128,
                2048,
                _BSD,
                ("torchvision resnext50_32x4d",),
            ),
            ("ResNeXt101_32x4d", 42_266_560, 2048, _APACHE, ("timm resnext101_32x4d.gluon_in1k",)),
            (
                "ResNeXt101_32x8d",
                86_945_216,
                2048,
                _BSD,
                ("torchvision resnext101_32x8d",),
            ),
            ("SEResNet50", 26_092_144, 2048, _APACHE, ("timm legacy_seresnet50.in1k",)),
            ("SEResNet101", 47_383_216, 2048, _APACHE, ("timm legacy_seresnet101.in1k",)),
            ("SEResNet152", 64_924_272, 2048, _APACHE, ("timm legacy_seresnet152.in1k",)),
        )
    ),
    *(
        Architecture(name, 224, "torch", parameters, "avg_pool", 512, _BSD, f"{_ZOO}.squeezenet", published)
        for name, parameters, published in (
            ("SqueezeNet1_0", 735_424, ("torchvision squeezenet1_0",)),
            ("SqueezeNet1_1", 722_496, ("torchvision squeezenet1_1",)),
        )
    ),
)

ARCHITECTURES = {row.name.lower(): row for row in sorted(_ROWS, key=lambda row: row.name.lower())}

# Other names in use, in lower case without punctuation.
_ALIASES = {
    "densenet269": "DenseNet264",  # a misnomer: no table of the paper has it
    "lenet": "LeNet5",
    "mobilenetv1": "MobileNet",
    "nasnetsmall": "NASNetMobile",
    "resnext50": "ResNeXt50_32x4d",
    "resnext101": "ResNeXt101_32x4d",
    **{f"shufflenetv2{width}x": f"ShuffleNetV2_x{width[0]}_{width[1]}" for width in ("05", "10", "15", "20")},
    "squeezenet": "SqueezeNet1_1",
}
_BY_PLAIN_NAME = {name.replace("_", ""): row for name, row in ARCHITECTURES.items()}


def find_architecture(name: str) -> Architecture | None:
    """The network of a name, whatever its case and punctuation ("mobilenet_v2", "MobileNetV2")."""
    plain = name.lower().replace("_", "").replace("-", "").replace(".", "")
    return _BY_PLAIN_NAME.get(_ALIASES.get(plain, plain).lower().replace("_", ""))


def build(
    architecture: Architecture,
    size: tuple[int, int],
    weights: str | None,
    *,
    include_top: bool,
    classes: int | None = None,
) -> Any:
    """Build a network, with the same layer names and random weights each time.

    Args:
        architecture: What to build.
        size: (height, width) in pixels.
        weights: "imagenet", which Keras downloads unless it has the file, or None for random ones.
        include_top: With the classifier instead of average pooling.
        classes: Outputs of the classifier; None for as many as the published weights have.

    Raises:
        OptionError: The size is too small, or the weights are not available.
    """
    create: Callable[..., Any] = getattr(importlib.import_module(architecture.module), architecture.name)
    options: dict[str, Any] = {} if include_top else {"pooling": "avg"}
    if weights or architecture.is_keras:
        options["weights"] = weights
    if classes:
        options["classes"] = classes
    with reproducible_build():
        try:
            return create(include_top=include_top, input_shape=(*size, 3), **options)
        except Exception as error:  # Keras raises a bare Exception for a failed download
            raise OptionError(_explain(error, architecture, size)) from error


def _explain(error: Exception, architecture: Architecture, size: tuple[int, int]) -> str:
    if "URL fetch failure" in str(error):
        folder = os.environ.get("KERAS_HOME", "~/.keras")
        return (
            f"The ImageNet weights of {architecture.name} cannot be downloaded ({error}). "
            f"Give a weights file with --weights PATH, or put Keras's file into {folder}/models"
        )
    return f"{architecture.name} cannot be built for {size[0]}x{size[1]} pixels: {error}"

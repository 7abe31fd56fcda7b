"""The models of `keras.applications`: their names, input sizes and normalization; how they are built."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from fastcls.backend import reproducible_build
from fastcls.errors import OptionError


@dataclass(frozen=True)
class Application:
    """One model of `keras.applications`, without its classifier and with average pooling.

    Attributes:
        function: Its name in `keras.applications`.
        side: Default height and width in pixels.
        normalize: Kind of normalization that its weights were trained with; "none" where the model
            carries its own.
        parameters: Number of parameters.
        output: Name of the last layer, the default cut.
        features: Length of the pooled bottleneck.
    """

    function: str
    side: int
    normalize: str
    parameters: int
    output: str
    features: int


APPLICATIONS = {
    row.function.lower(): row
    for row in (
        Application("ConvNeXtBase", 224, "none", 87_566_464, "layer_normalization", 1024),
        Application("ConvNeXtLarge", 224, "none", 196_230_336, "layer_normalization", 1536),
        Application("ConvNeXtSmall", 224, "none", 49_454_688, "layer_normalization", 768),
        Application("ConvNeXtTiny", 224, "none", 27_820_128, "layer_normalization", 768),
        Application("ConvNeXtXLarge", 224, "none", 348_147_968, "layer_normalization", 2048),
        Application("DenseNet121", 224, "torch", 7_037_504, "avg_pool", 1024),
        Application("DenseNet169", 224, "torch", 12_642_880, "avg_pool", 1664),
        Application("DenseNet201", 224, "torch", 18_321_984, "avg_pool", 1920),
        Application("EfficientNetB0", 224, "none", 4_049_571, "avg_pool", 1280),
        Application("EfficientNetB1", 240, "none", 6_575_239, "avg_pool", 1280),
        Application("EfficientNetB2", 260, "none", 7_768_569, "avg_pool", 1408),
        Application("EfficientNetB3", 300, "none", 10_783_535, "avg_pool", 1536),
        Application("EfficientNetB4", 380, "none", 17_673_823, "avg_pool", 1792),
        Application("EfficientNetB5", 456, "none", 28_513_527, "avg_pool", 2048),
        Application("EfficientNetB6", 528, "none", 40_960_143, "avg_pool", 2304),
        Application("EfficientNetB7", 600, "none", 64_097_687, "avg_pool", 2560),
        Application("EfficientNetV2B0", 224, "none", 5_919_312, "avg_pool", 1280),
        Application("EfficientNetV2B1", 240, "none", 6_931_124, "avg_pool", 1280),
        Application("EfficientNetV2B2", 260, "none", 8_769_374, "avg_pool", 1408),
        Application("EfficientNetV2B3", 300, "none", 12_930_622, "avg_pool", 1536),
        Application("EfficientNetV2L", 480, "none", 117_746_848, "avg_pool", 1280),
        Application("EfficientNetV2M", 480, "none", 53_150_388, "avg_pool", 1280),
        Application("EfficientNetV2S", 384, "none", 20_331_360, "avg_pool", 1280),
        Application("InceptionResNetV2", 299, "tf", 54_336_736, "global_average_pooling2d", 1536),
        Application("InceptionV3", 299, "tf", 21_802_784, "global_average_pooling2d", 2048),
        Application("MobileNet", 224, "tf", 3_228_864, "global_average_pooling2d", 1024),
        Application("MobileNetV2", 224, "tf", 2_257_984, "global_average_pooling2d", 1280),
        Application("MobileNetV3Large", 224, "none", 2_996_352, "avg_pool", 960),
        Application("MobileNetV3Small", 224, "none", 939_120, "avg_pool", 576),
        Application("NASNetLarge", 331, "tf", 84_916_818, "global_average_pooling2d", 4032),
        Application("NASNetMobile", 224, "tf", 4_269_716, "global_average_pooling2d", 1056),
        Application("ResNet101", 224, "caffe", 42_658_176, "avg_pool", 2048),
        Application("ResNet101V2", 224, "tf", 42_626_560, "avg_pool", 2048),
        Application("ResNet152", 224, "caffe", 58_370_944, "avg_pool", 2048),
        Application("ResNet152V2", 224, "tf", 58_331_648, "avg_pool", 2048),
        Application("ResNet50", 224, "caffe", 23_587_712, "avg_pool", 2048),
        Application("ResNet50V2", 224, "tf", 23_564_800, "avg_pool", 2048),
        Application("VGG16", 224, "caffe", 14_714_688, "global_average_pooling2d", 512),
        Application("VGG19", 224, "caffe", 20_024_384, "global_average_pooling2d", 512),
        Application("Xception", 299, "tf", 20_861_480, "global_average_pooling2d", 2048),
    )
}


def find_application(name: str) -> Application | None:
    """The application of a name, whatever its case and punctuation ("mobilenet_v2", "MobileNetV2")."""
    return APPLICATIONS.get(name.lower().replace("_", "").replace("-", ""))


def build(application: Application, size: tuple[int, int], weights: str | None, *, include_top: bool) -> Any:
    """Build an application, with the same layer names and random weights each time.

    Args:
        application: What to build.
        size: (height, width) in pixels.
        weights: "imagenet", which Keras downloads unless it has the file, or None for random ones.
        include_top: With the classifier instead of average pooling.

    Raises:
        OptionError: The size is too small, or the weights cannot be had.
    """
    from keras import applications

    create = getattr(applications, application.function)
    options: dict[str, Any] = {} if include_top else {"pooling": "avg"}
    with reproducible_build():
        try:
            return create(weights=weights, include_top=include_top, input_shape=(*size, 3), **options)
        except Exception as error:  # Keras raises a bare Exception for a failed download
            raise OptionError(_explain(error, application, size)) from error


def _explain(error: Exception, application: Application, size: tuple[int, int]) -> str:
    if "URL fetch failure" in str(error):
        folder = os.environ.get("KERAS_HOME", "~/.keras")
        return (
            f"The ImageNet weights of {application.function} cannot be downloaded ({error}). "
            f"Give a weights file with --weights PATH, or put Keras's file into {folder}/models"
        )
    return f"{application.function} cannot be built for {size[0]}x{size[1]} pixels: {error}"

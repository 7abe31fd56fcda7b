"""The families of transformers that keras_hub has, as far as one needs to know them to choose one."""

from __future__ import annotations

from dataclasses import dataclass

_APACHE, _UNKNOWN = "Apache-2.0", "see its card"


@dataclass(frozen=True)
class Family:
    """A family of bases `keras_hub:PRESET`.

    Attributes:
        name: What it is called.
        preset: A preset of it, one of the smallest.
        side: Height and width of that preset's images, in pixels.
        features: Length of a token.
        pooling: What those who made it put a linear classifier on, as `CutSpec.pool` and `CutSpec.last` say
            it; "its own" for a layer of the model that pools.
        license: License of the weights, as the card of the original model states it.
    """

    name: str
    preset: str
    side: int
    features: int
    pooling: str
    license: str


FAMILIES = (
    Family("CLIP", "clip_vit_base_patch16", 224, 768, "cls", _UNKNOWN),
    Family("DeiT", "deit_small_distilled_patch16_224_imagenet", 224, 384, "cls", _APACHE),
    Family("DINOv2", "dinov2_small", 224, 384, "cls+mean, --last 4", _APACHE),
    Family("DINOv2 with registers", "dinov2_with_registers_small", 224, 384, "cls+mean, --last 4", _APACHE),
    Family("DINOv3", "dinov3_vit_small_lvd1689m", 224, 384, "cls", "DINOv3 License, to be accepted first"),
    Family("MetaCLIP 2", "metaclip_2_vit_huge_patch14_224", 224, 1280, "cls", _UNKNOWN),
    Family("SigLIP", "siglip_base_patch16_224", 224, 768, "its own", _APACHE),
    Family("SigLIP 2", "siglip2_base_patch16_224", 224, 768, "its own", _APACHE),
    Family("ViT", "vit_base_patch16_224_imagenet", 224, 768, "cls", _UNKNOWN),
)

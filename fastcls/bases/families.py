"""The families that keras_hub has, as far as one needs to know them to choose one."""

from __future__ import annotations

from dataclasses import dataclass

_APACHE = "Apache-2.0"


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
        license: License of the weights, as the card of the original model states it; that of its repository
            where the card states none.
    """

    name: str
    preset: str
    side: int
    features: int
    pooling: str
    license: str


FAMILIES = (
    Family("CLIP", "clip_vit_base_patch16", 224, 768, "cls", "MIT (repository)"),
    Family("DeiT", "deit_small_distilled_patch16_224_imagenet", 224, 384, "cls", _APACHE),
    Family("DINOv2", "dinov2_small", 224, 384, "cls+mean, --last 4", _APACHE),
    Family("DINOv2 with registers", "dinov2_with_registers_small", 224, 384, "cls+mean, --last 4", _APACHE),
    Family("DINOv3", "dinov3_vit_small_lvd1689m", 224, 384, "cls", "DINOv3 License, to be accepted first"),
    Family("MetaCLIP 2", "metaclip_2_vit_huge_patch14_224", 224, 1280, "cls", "CC BY-NC 4.0 (repository)"),
    Family("SigLIP", "siglip_base_patch16_224", 224, 768, "its own", _APACHE),
    Family("SigLIP 2", "siglip2_base_patch16_224", 224, 768, "its own", _APACHE),
    Family("ViT", "vit_base_patch16_224_imagenet", 224, 768, "cls", _APACHE),
)

_LANGUAGE = "a language model that is shown images too: what sees them is made for it"
# Classes of keras_hub's backbones that have to do with images, and what each is instead of a base.
REFUSED = {
    **dict.fromkeys(("BLIP2Backbone", "PaliGemmaBackbone", "T5Gemma2Backbone"), _LANGUAGE),
    **dict.fromkeys(("Gemma3Backbone", "Gemma3nBackbone", "Gemma4Backbone"), _LANGUAGE),
    **dict.fromkeys(("Qwen3_5Backbone", "Qwen3_5MoeBackbone"), _LANGUAGE),
    "DFineBackbone": "a detector, whose decoder makes boxes of the features of an HGNetV2",
    "SAM3PromptableConceptBackbone": "a segmenter that takes texts and boxes beside an image",
    "VideoPrismBackbone": "a model of videos: its VideoPrismFactorizedReshape takes frames",
}
# Models of folders of Hugging Face, by their `model_type`.
REFUSED_TYPES = dict.fromkeys(
    ("siglip2", "siglip2_vision_model"),
    "a SigLIP 2 for images of any shape (naflex). Take one for images of one size, whose model_type is "
    "siglip, such as google/siglip2-base-patch16-224",
)

"""Small backbones of keras_hub with random weights."""

import numpy as np
import pytest

SIDE = 28
SHAPE = (SIDE, SIDE, 3)
COMMON = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16}
FORMS = {"patch_size": 7, "intermediate_dim": 24, "image_shape": SHAPE}
STAGES = {
    "depths": [1, 1],
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "stem_channels": [3, 8, 8],
    "hidden_act": "relu",
    "use_learnable_affine_block": True,
    "stackwise_stage_filters": [[8, 8, 8, 1, 2, 3], [8, 8, 16, 1, 2, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, True],
    "image_shape": SHAPE,
}
# How many tokens come before the patches.
FAMILIES = {
    "vit": 1,
    "vit_without_class": 0,
    "deit": 2,
    "dinov2": 1,
    "dinov2_with_registers": 4,
    "dinov3": 5,
    "dinov3_gated": 5,
    "siglip": 0,
    "clip": 1,
    "metaclip_2": 1,
}


def make(family):
    """A small backbone with random weights."""
    hub = pytest.importorskip("keras_hub").models
    plain = {"patch_size": (7, 7), "image_shape": SHAPE}
    dinov2 = {**FORMS, "position_embedding_shape": SHAPE}
    towers = {"siglip": hub.SigLIPBackbone, "clip": hub.CLIPBackbone, "metaclip_2": hub.MetaCLIP2Backbone}
    makers = {
        "vit": lambda: hub.ViTBackbone(mlp_dim=24, **plain, **COMMON),
        "vit_without_class": lambda: hub.ViTBackbone(mlp_dim=24, use_class_token=False, **plain, **COMMON),
        "deit": lambda: hub.DeiTBackbone(intermediate_dim=24, **plain, **COMMON),
        "dinov2": lambda: hub.DINOV2Backbone(**dinov2, **COMMON),
        "dinov2_with_registers": lambda: hub.DINOV2Backbone(
            num_register_tokens=3, use_swiglu_ffn=True, **dinov2, **COMMON
        ),
        "dinov3": lambda: hub.DINOV3Backbone(**FORMS, **COMMON),
        "dinov3_gated": lambda: hub.DINOV3Backbone(use_gated_mlp=True, **FORMS, **COMMON),
        "hgnetv2": lambda: hub.HGNetV2Backbone(**STAGES),
        "swin": lambda: hub.SwinTransformerBackbone(
            image_shape=SHAPE, embed_dim=8, depths=[1], num_heads=[2], window_size=7
        ),
        **{name: lambda kind=kind: vision_tower(kind) for name, kind in towers.items()},
    }
    backbone = makers[family]()
    random = np.random.default_rng(0)
    for weight in backbone.weights:
        if weight.dtype == "float32":
            weight.assign(random.normal(0, 0.3, weight.shape))
    return backbone


def vision_tower(kind):
    """The part of a model of images and texts that sees the images."""
    module = __import__(kind.__module__.replace("backbone", "vision_encoder"), fromlist=["_"])
    name = kind.__name__.replace("Backbone", "VisionEncoder")
    return getattr(module, name)(**FORMS, **COMMON)

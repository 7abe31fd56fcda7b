"""Small backbones of keras_hub with random weights."""

import numpy as np
import pytest

SIDE = 28
SHAPE = (SIDE, SIDE, 3)
COMMON = {"num_layers": 2, "num_heads": 2, "hidden_dim": 16}
FORMS = {"patch_size": 7, "intermediate_dim": 24, "image_shape": SHAPE}
PLAIN = {"patch_size": (7, 7), "image_shape": SHAPE, "mlp_dim": 24, **COMMON}
DINOV2 = {**FORMS, "position_embedding_shape": SHAPE, **COMMON}
RESIDUAL = {
    **{"input_conv_filters": [8], "input_conv_kernel_sizes": [3], "stackwise_num_filters": [64, 16]},
    **{"stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2], "image_shape": SHAPE},
}
STAGES = {
    **{"depths": [1, 1], "embedding_size": 8, "hidden_sizes": [8, 16], "stem_channels": [3, 8, 8]},
    **{"hidden_act": "relu", "use_learnable_affine_block": True, "image_shape": SHAPE},
    "stackwise_stage_filters": [[8, 8, 8, 1, 2, 3], [8, 8, 16, 1, 2, 3]],
    "apply_downsample": [False, True],
    "use_lightweight_conv_block": [False, True],
}
MOBILE = {
    **{"stackwise_expansion": [[16], [24]], "stackwise_num_blocks": [1, 1], "image_shape": SHAPE},
    **{"stackwise_num_filters": [[8], [16]], "stackwise_kernel_size": [[3], [5]]},
    **{"stackwise_num_strides": [[2], [2]], "stackwise_se_ratio": [[0.25], [None]]},
    **{"stackwise_activation": [["relu"], ["hard_swish"]], "stackwise_padding": [[1], [2]]},
    **{"output_num_filters": 32, "depthwise_filters": 8, "depthwise_stride": 2, "last_layer_filter": 32},
    **{"depthwise_residual": False, "squeeze_and_excite": 0.5, "input_num_filters": 8},
    **{"input_activation": "hard_swish", "output_activation": "hard_swish"},
}
EFFICIENT = {
    **{"stackwise_kernel_sizes": [3, 3], "stackwise_num_repeats": [1, 1], "image_shape": SHAPE},
    **{"stackwise_input_filters": [8, 8], "stackwise_output_filters": [8, 16]},
    **{"stackwise_expansion_ratios": [1, 4], "stackwise_strides": [1, 2]},
    **{"stackwise_squeeze_and_excite_ratios": [0.25, 0.25], "stackwise_block_types": ["v1", "v1"]},
    **{"stackwise_force_input_filters": [0, 0], "stackwise_nores_option": [False, False]},
    **{"width_coefficient": 0.1, "depth_coefficient": 1.0},
}
SWIN = {
    **{"image_shape": SHAPE, "patch_size": 7, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2]},
    "window_size": 2,
}
HIERARCHY = {
    **{"layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2], "image_shape": SHAPE},
    **{"layerwise_sr_ratios": [2, 1], "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3]},
    **{"layerwise_strides": [7, 2], "hidden_dims": [8, 16]},
}
DETECTION = {
    **{"hidden_size": 16, "num_layers": 2, "intermediate_dim": 16, "num_heads": 2, "image_shape": SHAPE},
    **{"global_attention_layer_indices": [1], "patch_size": 7, "num_output_channels": 8, "window_size": 3},
}
UNIVERSAL = {
    **{"stackwise_block_types": [["er"], ["uir", "mqa", "mqa"]], "stackwise_num_blocks": [1, 3]},
    **{"stackwise_num_filters": [[8], [16, 16, 16]], "stackwise_strides": [[2], [2, 1, 1]]},
    **{"stackwise_act_layers": [["relu"], ["gelu"] * 3], "stackwise_exp_ratios": [[2.0], [2.0] * 3]},
    **{"stackwise_se_ratios": [[0.0], [0.0] * 3], "stackwise_dw_kernel_sizes": [[0], [3] * 3]},
    **{"stackwise_dw_start_kernel_sizes": [[0], [3] * 3], "stackwise_dw_end_kernel_sizes": [[0], [0] * 3]},
    **{"stackwise_exp_kernel_sizes": [[3], [0] * 3], "stackwise_pw_kernel_sizes": [[1], [0] * 3]},
    **{"stackwise_num_heads": [[0], [2] * 3], "stackwise_key_dims": [[0], [8] * 3]},
    **{"stackwise_value_dims": [[0], [8] * 3], "stackwise_kv_strides": [[0], [1, 2, 1]]},
    **{"stackwise_use_cpe": [[False], [False, False, True]], "layer_scale_init_value": 0.1},
    **{"stem_size": 8, "num_features": 16, "msfa_output_resolution": 7, "image_shape": SHAPE},
}
CROSS_STAGE = {
    **{"stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 1, "stackwise_depth": [1, 1]},
    **{"stackwise_strides": [1, 2], "stackwise_num_filters": [8, 16], "image_shape": SHAPE},
}
CONVOLUTIONS = {"stackwise_conv_filters": [[8, 8], [16, 16]], "stackwise_pooling": [True, False]}
# Families that make tokens -> class, options, and how many tokens come before those of the patches.
TOKENS = {
    "vit": ("ViTBackbone", PLAIN, 1),
    "vit_without_class": ("ViTBackbone", {**PLAIN, "use_class_token": False}, 0),
    "deit": ("DeiTBackbone", {**FORMS, "patch_size": (7, 7), **COMMON}, 2),
    "dinov2": ("DINOV2Backbone", DINOV2, 1),
    "dinov2_with_registers": (
        *("DINOV2Backbone", {**DINOV2, "num_register_tokens": 3, "use_swiglu_ffn": True}),
        4,
    ),
    "dinov3": ("DINOV3Backbone", {**FORMS, **COMMON}, 5),
    "dinov3_gated": ("DINOV3Backbone", {**FORMS, **COMMON, "use_gated_mlp": True}, 5),
    "siglip": ("SigLIPVisionEncoder", {**FORMS, **COMMON}, 0),
    "clip": ("CLIPVisionEncoder", {**FORMS, **COMMON}, 1),
    "metaclip_2": ("MetaCLIP2VisionEncoder", {**FORMS, **COMMON}, 1),
}
# Families that make maps, or tokens in windows.
MAPS = {
    "cspnet": ("CSPNetBackbone", {**CROSS_STAGE, "stage_type": "dark", "block_type": "dark_block"}),
    "densenet": (
        "DenseNetBackbone",
        {"stackwise_num_repeats": [1, 1], "compression_ratio": 0.5, "growth_rate": 4, "image_shape": SHAPE},
    ),
    "efficientnet": ("EfficientNetBackbone", EFFICIENT),
    "hgnetv2": ("HGNetV2Backbone", STAGES),
    "mit": ("MiTBackbone", HIERARCHY),
    "mobilenet": ("MobileNetBackbone", MOBILE),
    "mobilenetv5": ("MobileNetV5Backbone", UNIVERSAL),
    "resnet": ("ResNetBackbone", {**RESIDUAL, "block_type": "bottleneck_block"}),
    "swin": ("SwinTransformerBackbone", SWIN),
    "vgg": (
        "VGGBackbone",
        {"stackwise_num_repeats": [1, 1], "stackwise_num_filters": [4, 8], "image_shape": SHAPE},
    ),
    "vitdet": ("ViTDetBackbone", DETECTION),
    "xception": ("XceptionBackbone", {**CONVOLUTIONS, "image_shape": SHAPE}),
}
EVERY = {**TOKENS, **MAPS}
FAMILIES = {family: prefix for family, (_, _, prefix) in TOKENS.items()}


def make(family):
    """A small backbone with random weights."""
    hub = pytest.importorskip("keras_hub").models
    kind, options = EVERY[family][:2]
    backbone = getattr(hub, kind)(**options)
    random = np.random.default_rng(0)
    for weight in backbone.weights:
        if weight.dtype == "float32":
            factors = weight.name in ("gamma", "moving_variance", "scale")
            values = random.normal(0, 0.3, weight.shape)
            weight.assign(abs(1 + values) if factors else values)
    return backbone

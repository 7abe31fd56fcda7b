"""What the layers of keras_hub that own weights compute, said in built-in layers of Keras.

Each rule is called as the layer is, with symbolic tensors, and gives what the layer gives. Tokens, positions
and rotary tables become constants of the graph: they are no longer trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcls import graph
from fastcls.bases.opening.cubic import resize_cubic

if TYPE_CHECKING:
    from fastcls.bases.opening.foreign import Opened

Rule = Callable[..., Any]
_PLACES = ((1, 2), (1, 2, 3))  # all axes of tokens or of maps, but that of the images
_BLOCKS = (
    *("CLIPEncoderLayer", "DINOV2Layer", "DINOV3Layer", "DeiTEncoderBlock", "HierarchicalTransformerEncoder"),
    *("MetaCLIP2EncoderLayer", "SigLIPEncoderLayer", "SwinTransformerBlock", "ViTEncoderBlock"),
    "WindowedTransformerEncoder",
)
_ENCODERS = ("Encoder", "SwinTransformerStage")  # how their names end


def is_of_keras_hub(kind: type) -> bool:
    """Whether a class is keras_hub's own."""
    return kind.__module__.partition(".")[0] == "keras_hub"


def is_encoder(kind: type) -> bool:
    """Whether a class is one of keras_hub's that hold the blocks of a transformer."""
    return is_of_keras_hub(kind) and kind.__name__.endswith(_ENCODERS) and not is_block(kind)


def is_block(kind: type) -> bool:
    """Whether a class is one of keras_hub's blocks of a transformer."""
    return is_of_keras_hub(kind) and kind.__name__ in _BLOCKS


def constants_of(model: Any) -> list[str]:
    """Names of the operations of a model that hold positions and tokens as constants."""
    found = graph.nodes(model) if graph.is_functional(model) else []
    return [node.operation.name for node in found if _adds_constants(node)]


def _adds_constants(node: Any) -> bool:
    if type(node.operation).__name__ == "Einsum":  # queries times relative positions
        return node.operation.subscripts.partition("->")[0].count(",") >= len(node.input_tensors)
    return type(node.operation).__name__ == "Normalization" and node.operation.axis in _PLACES


# Patches and positions


def _embed(
    layer: Any,
    found: Opened,
    image: Any,
    convolution: Any,
    prefix: np.ndarray | None = None,
    positions: np.ndarray | None = None,
) -> Any:
    """Patches of an image as tokens, after others, with their positions.

    Args:
        layer: The layer that is replaced.
        found: Learns how many tokens come first.
        image: Symbolic (B, H, W, 3).
        convolution: Makes the patches.
        prefix: (P, C), the tokens before the patches; None for no token.
        positions: (P + N, C), which is added to all tokens.

    Returns:
        (B, P + N, C).
    """
    from keras import layers

    patches = _renamed_copy(convolution, f"{layer.name}_patches", image)
    height, width, channels = patches.shape[1:]
    tokens = layers.Reshape((height * width, channels), name=f"{layer.name}_tokens")(patches)
    first = np.zeros((0, channels), np.float32) if prefix is None else prefix
    found.prefix_tokens = len(first)
    if len(first):
        tokens = layers.ZeroPadding1D((len(first), 0), name=f"{layer.name}_prefix")(tokens)
    offset = np.zeros(tuple(tokens.shape[1:]), np.float32)
    offset[: len(first)] += first
    offset += 0 if positions is None else positions
    return _add_constant(tokens, offset, layer.name)


def _vit(layer: Any, found: Opened, image: Any, **_: Any) -> Any:
    first = _values(layer.class_token)[0] if layer.use_class_token else None
    positions = _values(layer.position_embedding.embeddings)
    return _embed(layer, found, image, layer.patch_embedding, first, positions)


def _deit(layer: Any, found: Opened, image: Any, **_: Any) -> Any:
    first = np.concatenate([_values(layer.class_token)[0], _values(layer.distillation_token)[0]])
    return _embed(layer, found, image, layer.patch_embedding, first, _values(layer.position_embedding)[0])


def _dinov2(layer: Any, found: Opened, image: Any, **_: Any) -> Any:
    first, registers = _class_and_registers(layer)
    positions = _dinov2_positions(layer)
    # Registers have no position.
    positions = np.concatenate([positions[:1], np.zeros_like(registers), positions[1:]])
    return _embed(layer, found, image, layer.patch_embeddings.projection, first, positions)


def _without_prefix(layer: Any, found: Opened, image: Any, **_: Any) -> Any:
    """Patches whose layer owns no weights, and that no token is before."""
    found.prefix_tokens = 0
    return layer.call(image)


def _map_positions(layer: Any, found: Opened, patches: Any, **_: Any) -> Any:
    return _add_constant(patches, _values(layer.pos_embed)[0], layer.name)


def _dinov2_positions(layer: Any) -> np.ndarray:
    """Positions of the class token and of the patches, (1 + N, C), for the size of the images.

    keras_hub interpolates by another cubic kernel than the code that the weights are of:
    https://github.com/huggingface/transformers/blob/main/src/transformers/models/dinov2/modeling_dinov2.py.
    With antialiasing, as the models with registers have it, both are the same.
    """
    if layer.antialias_in_interpolation or layer.image_shape == layer.position_embedding_shape:
        return _values(layer.interpolated_position_embeddings)[0]
    positions = _values(layer.position_embeddings)[0]
    (known, wanted) = (
        tuple(side // layer.patch_size for side in shape)
        for shape in (layer.position_embedding_shape, layer.image_shape)
    )
    grid = positions[1:].reshape(*known, -1)
    return np.concatenate([positions[:1], resize_cubic(grid, wanted).reshape(-1, grid.shape[-1])])


def _dinov3(layer: Any, found: Opened, image: Any, **_: Any) -> Any:
    first, _registers = _class_and_registers(layer)
    return _embed(layer, found, image, layer.patch_embeddings.projection, first)


def _class_and_registers(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    token = _values(layer.cls_token)[0]
    registers = _values(layer.register_tokens)[0] if layer.num_register_tokens else token[:0]
    return np.concatenate([token, registers]), registers


def _siglip(layer: Any, found: Opened, image: Any, **_: Any) -> Any:
    return _embed(layer, found, image, layer.patch_embedding, None, _looked_up(layer))


def _clip(layer: Any, found: Opened, image: Any, **_: Any) -> Any:
    first = _values(layer.class_embedding)[None]
    return _embed(layer, found, image, layer.patch_embedding, first, _looked_up(layer))


def _looked_up(layer: Any) -> np.ndarray:
    return _values(layer.position_embedding.embeddings)[_values(layer.position_ids)[0]]


# Inside of blocks


def _layer_scale(layer: Any, found: Opened, tensor: Any, **_: Any) -> Any:
    """A factor per channel, multiplied into the layer before where that is dense."""
    from keras import layers

    scale = _values(layer.gamma if hasattr(layer, "gamma") else layer.lambda1)
    last = graph.operation_of(tensor)
    kinds = (layers.Conv2D, layers.Dense, layers.MultiHeadAttention, layers.RMSNormalization)
    if isinstance(last, kinds) and _is_linear(last):
        return _scaled_copy(last, scale)
    return _scaled(tensor, scale, f"{layer.name}_factors")


def _is_linear(layer: Any) -> bool:
    import keras

    return getattr(layer, "activation", keras.activations.linear) is keras.activations.linear


def _scaled_copy(layer: Any, scale: np.ndarray) -> Any:
    """What a layer gives, times a factor per channel: its last kernel and bias are scaled."""
    (node,) = layer._inbound_nodes[-1:]
    made = type(layer).from_config(layer.get_config())
    output = made(*node.arguments.args, **node.arguments.kwargs)
    weights = layer.get_weights()
    scaled = 1 + bool(getattr(layer, "use_bias", getattr(layer, "_use_bias", False)))
    made.set_weights([*weights[:-scaled], *(weight * scale for weight in weights[-scaled:])])
    return output


def _attention_pooling(layer: Any, found: Opened, tokens: Any, **_: Any) -> Any:
    """A learned query attends to all tokens."""
    channels = tokens.shape[-1]
    zero = _scaled(tokens[:, :1], np.zeros(channels, np.float32), f"{layer.name}_query")
    probe = _add_constant(zero, _values(layer.probe)[0], f"{layer.name}_probe")
    attended = layer.attention(probe, tokens, tokens)
    return (attended + layer.mlp(layer.layer_norm(attended)))[:, 0]


def _rotary_attention(
    layer: Any,
    found: Opened,
    tokens: Any,
    attention_mask: Any = None,
    position_embeddings: Any = None,
    num_prefix_tokens: int = 0,
    **_: Any,
) -> Any:
    """Attention of DINOv3: queries and keys of patches are turned by their place."""
    from keras import layers, ops

    length = tokens.shape[1]

    def split(tensor: Any, name: str) -> Any:
        shape = (length, layer.num_heads, layer.head_dim)
        return layers.Reshape(shape, name=f"{layer.name}_{name}")(tensor)

    query = split(layer.query_dense(tokens), "query")
    key = split(layer.key_dense(tokens), "key")
    value = split(layer.value_dense(tokens), "value")
    if position_embeddings is not None:
        # Tokens without a place are turned by nothing.
        cosine, sine = (
            ops.convert_to_tensor(_after(_values(table), num_prefix_tokens, fill)[None, :, None])
            for table, fill in zip(position_embeddings, (1, 0), strict=True)
        )
        query, key = (_turn(each, cosine, sine) for each in (query, key))
    attended = ops.dot_product_attention(query, key, value, mask=attention_mask, scale=layer.scale)
    shape = (length, layer.num_heads * layer.head_dim)
    joined = layers.Reshape(shape, name=f"{layer.name}_joined")(attended)
    return layer.output_dense(layer.dropout(joined))


def _window_attention(layer: Any, found: Opened, windows: Any, mask: Any = None, **_: Any) -> Any:
    """Attention of Swin: inside of windows, with a bias for each two places, and a mask for shifted ones."""
    from keras import ops

    length, channels = windows.shape[1:]
    joined = ops.reshape(layer.qkv(windows), (-1, length, 3, layer.num_heads, layer.head_dim))
    query, key, value = ops.unstack(ops.transpose(joined, (2, 0, 3, 1, 4)), axis=0)
    scores = ops.matmul(query * layer.scale, ops.transpose(key, (0, 1, 3, 2)))
    scores = _add_constant(scores, _values(layer._get_rel_pos_bias()), f"{layer.name}_places")
    if mask is not None:
        each = ops.reshape(scores, (-1, mask.shape[0], *scores.shape[1:]))
        scores = ops.reshape(each + ops.expand_dims(mask, 1)[None], (-1, *scores.shape[1:]))
    attended = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
    return layer.proj(ops.reshape(attended, (-1, length, channels)))


def _after(table: np.ndarray, count: int, fill: float) -> np.ndarray:
    return np.concatenate([np.full((count, table.shape[1]), fill, table.dtype), table])


def _turn(tensor: Any, cosine: Any, sine: Any) -> Any:
    """RoPE (https://arxiv.org/abs/2104.09864), in halves."""
    from keras import ops

    half = tensor.shape[-1] // 2
    turned = ops.concatenate([-tensor[..., half:], tensor[..., :half]], axis=-1)
    return tensor * cosine + turned * sine


def _with_constants(layer: Any, found: Opened, *arguments: Any, **options: Any) -> Any:
    """A layer that makes constants of its weights by itself, such as a bias of places looked up."""
    return layer.call(*arguments, **options)


def _root_mean_square(layer: Any, found: Opened, tensor: Any, **_: Any) -> Any:
    from keras import layers

    made = layers.RMSNormalization(epsilon=layer.eps, name=layer.name)
    output = made(tensor)
    made.set_weights(layer.get_weights())
    return output


def _affine(layer: Any, found: Opened, tensor: Any, **_: Any) -> Any:
    """One factor and one offset for all values."""
    from keras import layers

    scale, offset = (float(_values(value).reshape(())) for value in (layer.scale, layer.bias))
    return layers.Rescaling(scale, offset, name=layer.name)(tensor)


# What rules are made of


def _values(variable: Any) -> np.ndarray:
    import keras

    values: np.ndarray = keras.ops.convert_to_numpy(variable)
    return values


def _renamed_copy(layer: Any, name: str, tensor: Any) -> Any:
    made = type(layer).from_config({**layer.get_config(), "name": name})
    output = made(tensor)
    made.set_weights(layer.get_weights())
    return output


def _scaled(tokens: Any, factors: np.ndarray, name: str) -> Any:
    from keras import layers

    made = layers.DepthwiseConv1D(1, use_bias=False, trainable=False, name=name)
    output = made(tokens)
    made.set_weights([factors.reshape(1, -1, 1)])
    return output


def _add_constant(tokens: Any, values: np.ndarray, name: str) -> Any:
    """Add values (T, C) to tokens (B, T, C), or others to what is of their shape for one image.

    It is x - (-values) over a deviation of 1: LiteRT converts that.
    """
    from keras import layers

    axes = tuple(range(1, 1 + values.ndim))
    return layers.Normalization(axis=axes, mean=-values, variance=np.ones_like(values), name=name)(tokens)


RULES: dict[str, Rule] = {
    "AddPositionalEmbedding": _map_positions,
    "AddRelativePositionalEmbedding": _with_constants,
    "CLIPVisionEmbedding": _clip,
    "DINOV2Embedding": _dinov2,
    "DINOV2LayerScale": _layer_scale,
    "DINOV3Attention": _rotary_attention,
    "DINOV3Embedding": _dinov3,
    "DINOV3LayerScale": _layer_scale,
    "DeiTEmbeddings": _deit,
    "HGNetV2LearnableAffineBlock": _affine,
    "LayerScale2d": _layer_scale,
    "MetaCLIP2VisionEmbedding": _clip,
    "OverlappingPatchingAndEmbedding": _without_prefix,
    "PatchEmbedding": _without_prefix,
    "RmsNorm2d": _root_mean_square,
    "SigLIPMultiHeadAttentionPooling": _attention_pooling,
    "SigLIPVisionEmbedding": _siglip,
    "ViTPatchingAndEmbedding": _vit,
    "WindowAttention": _window_attention,
}

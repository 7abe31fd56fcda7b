"""Tiny classifiers that have what converters stumble over."""

import numpy as np

from fastcls.backend import import_keras
from fastcls.bases.normalize import normalize
from fastcls.inference.stitcher import stitch
from fastcls.training.heads.knn import neighbor_head

SIZE, CLASSES = (16, 16), 3


def depthwise(image):
    """A padded depthwise convolution, batch normalization, swish and squeeze-and-excitation."""
    layers = import_keras().layers
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Normalization(mean=[0.5] * 3, variance=[0.06] * 3)(x)  # as EfficientNet's own
    x = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="valid", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("swish")(x)
    squeezed = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    return layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(squeezed)])


def grouped(image):
    """A grouped convolution, layer normalization and the exact GELU."""
    layers = import_keras().layers
    x = layers.Conv2D(8, 3, strides=2)(normalize(image, "torch"))
    x = layers.Conv2D(8, 3, groups=4, padding="same")(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    return layers.Activation("gelu")(x)


def caffe(image):
    """Channels in another order, and maximum pooling."""
    layers = import_keras().layers
    x = layers.Conv2D(8, 3, activation="relu")(normalize(image, "caffe"))
    return layers.MaxPooling2D(2)(x)


def plain(image):
    """The normalization of MobileNet."""
    layers = import_keras().layers
    return layers.Conv2D(8, 3, strides=2, activation="relu")(normalize(image, "tf"))


def transformer(image):
    """A block of a transformer."""
    layers = import_keras().layers
    x = layers.Reshape((16, 16))(layers.Conv2D(16, 4, strides=4)(normalize(image, "torch")))
    normal = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 8, bias_initializer="random_normal")(normal, normal)
    x = x + layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x))
    return layers.Reshape((4, 4, 16))(x)


def dense(activation):
    """A head of one layer."""

    def make(shape):
        keras = import_keras()
        bottleneck = keras.Input(shape)
        made = keras.layers.Dense(CLASSES, activation=activation, name="head_probabilities")(bottleneck)
        return keras.Model(bottleneck, made)

    return make


def knn(shape):
    """Votes of 12 neighbors."""
    kernel = np.random.default_rng(1).normal(size=(*shape, 12)).astype(np.float32)
    kernel /= np.linalg.norm(kernel, axis=0)
    return neighbor_head(shape, kernel, np.arange(12) % CLASSES, CLASSES, 3)


# Name -> what makes the trunk's map, the head, and the size of its weights.
NETWORKS = {
    "depthwise": (depthwise, dense("softmax"), 4.0),
    "grouped": (grouped, dense("sigmoid"), 4.0),
    "caffe": (caffe, dense("softmax"), 0.05),
    "knn": (plain, knn, 0.0),
    "transformer": (transformer, dense("softmax"), 4.0),
}


def build(name):
    """A stitched classifier whose answers depend on the image; the same weights each time."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    trunk, head, scale = NETWORKS[name]
    image = keras.Input((*SIZE, 3), dtype="uint8", name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(trunk(image))
    model = stitch(keras.Model(image, pooled), head(pooled.shape[1:]))
    random = np.random.default_rng(0)
    for layer in model.layers:
        if scale and layer.name == "head_probabilities":
            kernel, bias = layer.get_weights()
            layer.set_weights([random.normal(0, scale, kernel.shape), random.normal(0, 0.3, bias.shape)])
    return model

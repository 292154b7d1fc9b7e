"""AlexNet (Krizhevsky et al. 2012): the whole net, and its convolutions alone, as benchmarks time them."""

from __future__ import annotations

import keras
from keras import layers

from nets.conventions.layout import image
from nets.lrn import LocalResponseNormalization

MIN_IMAGE_SIZE = 67
"""Smallest image that leaves pool5 one pixel; the SAME padding of alexnet_conv's conv1 would allow 57."""


def alexnet(num_classes: int = 1000, image_size: int = 227, keep_prob: float = 0.5) -> keras.Model:
    """AlexNet in two groups, like BVLC's Caffe weights: -> logits `[batch, num_classes]`; 60,965,224 parameters.

    conv2, conv4 and conv5 see their input as two groups of channels, the two GPUs of 2012. Pooling comes before
    normalisation, dropout keeps `keep_prob` of fc6 and fc7 in training.
    """
    inputs = image(image_size)
    x = layers.Conv2D(96, 11, strides=4, activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = LocalResponseNormalization(2, alpha=2e-5, beta=0.75, name="norm1")(x)
    x = layers.Conv2D(256, 5, padding="same", groups=2, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
    x = LocalResponseNormalization(2, alpha=2e-5, beta=0.75, name="norm2")(x)
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Conv2D(384, 3, padding="same", groups=2, activation="relu", name="conv4")(x)
    x = layers.Conv2D(256, 3, padding="same", groups=2, activation="relu", name="conv5")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool5")(x)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = layers.Dense(4096, activation="relu", name=name)(x)
        x = layers.Dropout(1 - keep_prob, name=f"{name}_drop")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="fc8")(x), name="alexnet")


def alexnet_conv(image_size: int = 224, lrn: bool = False) -> keras.Model:
    """AlexNet's convolutions without the classifier: -> pool5 `[batch, 6, 6, 256]` at 224; 2,469,696 parameters.

    The one-tower widths of "One weird trick" (arXiv:1404.5997). `lrn` normalises after conv1 and conv2, before pooling.
    """
    inputs = image(image_size)
    x = _conv(64, 11, "conv1", strides=4)(inputs)
    if lrn:
        x = LocalResponseNormalization(4, alpha=0.001 / 9, beta=0.75, name="lrn1")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    x = _conv(192, 5, "conv2")(x)
    if lrn:
        x = LocalResponseNormalization(4, alpha=0.001 / 9, beta=0.75, name="lrn2")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool2")(x)
    x = _conv(384, 3, "conv3")(x)
    x = _conv(256, 3, "conv4")(x)
    x = _conv(256, 3, "conv5")(x)
    return keras.Model(inputs, layers.MaxPooling2D(3, strides=2, name="pool5")(x), name="alexnet_conv")


def _conv(filters: int, kernel_size: int, name: str, strides: int = 1) -> layers.Conv2D:
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        activation="relu",
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.1),
        name=name,
    )

"""ResNet V2 (He et al. 2016, arXiv:1603.05027): residual units with batch normalisation before each convolution.

Layer names are TF-Slim's scopes with "." for "/", which Keras does not allow in a layer's name.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from nets.conventions.layout import channel_axis, image

WIDTHS = (64, 128, 256, 512)
"""Bottleneck filters of the four blocks; a block's output is four times as deep."""


def resnet_v2_50(num_classes: int = 1000, image_size: int = 224) -> keras.Model:
    """-> logits `[batch, num_classes]`; 25,568,360 trainable parameters."""
    return _resnet_v2("resnet_v2_50", (3, 4, 6, 3), num_classes, image_size)


def resnet_v2_101(num_classes: int = 1000, image_size: int = 224) -> keras.Model:
    """-> logits `[batch, num_classes]`; 44,577,896 trainable parameters."""
    return _resnet_v2("resnet_v2_101", (3, 4, 23, 3), num_classes, image_size)


def resnet_v2_152(num_classes: int = 1000, image_size: int = 224) -> keras.Model:
    """-> logits `[batch, num_classes]`; 60,236,904 trainable parameters."""
    return _resnet_v2("resnet_v2_152", (3, 8, 36, 3), num_classes, image_size)


def resnet_v2_200(num_classes: int = 1000, image_size: int = 224) -> keras.Model:
    """-> logits `[batch, num_classes]`; 64,726,120 trainable parameters."""
    return _resnet_v2("resnet_v2_200", (3, 24, 36, 3), num_classes, image_size)


def _resnet_v2(name: str, units: tuple[int, ...], num_classes: int, image_size: int) -> keras.Model:
    """`units` are the numbers of units of the four blocks; all but the last block end with a unit of stride 2."""
    inputs = image(image_size)
    x = _conv(inputs, 64, 7, "conv1", strides=2)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    for block, (count, width) in enumerate(zip(units, WIDTHS, strict=True), start=1):
        for unit in range(1, count + 1):
            strides = 2 if unit == count and block < len(units) else 1
            x = _bottleneck(x, width, strides, f"block{block}.unit_{unit}")
    x = _norm_relu(x, "postnorm")
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    logits = layers.Dense(num_classes, kernel_initializer=_he_normal(), name="logits")(x)
    return keras.Model(inputs, logits, name=name)


def _bottleneck(x: Any, width: int, strides: int, name: str) -> Any:
    """1x1, 3x3 and 1x1 convolutions beside a shortcut, which is a projection where the depth changes."""
    depth = 4 * width
    preact = _norm_relu(x, f"{name}.preact")
    if x.shape[channel_axis()] != depth:
        shortcut = _conv(preact, depth, 1, f"{name}.shortcut", strides)
    elif strides > 1:
        shortcut = layers.MaxPooling2D(1, strides=strides, name=f"{name}.shortcut")(x)
    else:
        shortcut = x
    residual = _conv(preact, width, 1, f"{name}.conv1", use_bias=False)
    residual = _norm_relu(residual, f"{name}.conv1.norm")
    residual = _conv(residual, width, 3, f"{name}.conv2", strides, use_bias=False)
    residual = _norm_relu(residual, f"{name}.conv2.norm")
    residual = _conv(residual, depth, 1, f"{name}.conv3")
    return layers.Add(name=f"{name}.add")([shortcut, residual])


def _conv(x: Any, filters: int, size: int, name: str, strides: int = 1, use_bias: bool = True) -> Any:
    """A convolution whose padding does not depend on the image's size: conv2d_same of TF-Slim.

    TensorFlow's SAME pads a strided convolution of an even image on the right and bottom only.
    """
    if strides > 1 and size > 1:
        before = (size - 1) // 2
        after = size - 1 - before
        x = layers.ZeroPadding2D(((before, after), (before, after)), name=f"{name}.pad")(x)
    padding = "valid" if strides > 1 else "same"
    conv = layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=_he_normal(),
        name=name,
    )
    return conv(x)


def _norm_relu(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(channel_axis(), momentum=0.997, epsilon=1e-5, name=name)(x)
    return layers.ReLU(name=f"{name}.relu")(x)


def _he_normal() -> keras.initializers.Initializer:
    return keras.initializers.VarianceScaling(2.0, mode="fan_in", distribution="truncated_normal")

"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556)."""

from __future__ import annotations

import keras
from keras import layers

from nets.conventions.layout import image

CONVOLUTIONS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""VGG16 (configuration D): of each stage, the number of 3x3 convolutions and their filters."""


def vgg16(num_classes: int = 1000, image_size: int = 224, keep_prob: float = 0.5) -> keras.Model:
    """VGG16: `[batch, image_size, image_size, 3]` -> logits `[batch, num_classes]`; 138,357,544 parameters.

    fc8 has no ReLU, so that the logits are those of the paper. Dropout keeps `keep_prob` of fc6 and fc7 in training.
    """
    inputs = x = image(image_size)
    for stage, (count, filters) in enumerate(CONVOLUTIONS, start=1):
        for i in range(1, count + 1):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{stage}_{i}")(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{stage}")(x)
    x = layers.Flatten(name="flatten")(x)
    for name in ("fc6", "fc7"):
        x = layers.Dense(4096, activation="relu", bias_initializer=keras.initializers.Constant(0.1), name=name)(x)
        x = layers.Dropout(1 - keep_prob, name=f"{name}_drop")(x)
    logits = layers.Dense(num_classes, bias_initializer=keras.initializers.Constant(0.1), name="fc8")(x)
    return keras.Model(inputs, logits, name="vgg16")

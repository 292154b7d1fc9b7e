"""A net that costs next to nothing, for smoke runs and for measuring the cost of a trial without its net."""

from __future__ import annotations

import keras
from keras import layers

from nets.conventions.layout import image


def tiny(num_classes: int = 10, image_size: int = 8) -> keras.Model:
    """One convolution, one pool, one dense layer: `[batch, image_size, image_size, 3]` -> `[batch, num_classes]`."""
    inputs = image(image_size)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool1")(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name="tiny")

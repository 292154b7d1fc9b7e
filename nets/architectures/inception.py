"""Inception V3 (Szegedy et al. 2015, arXiv:1512.00567) with its auxiliary classifier.

Layer names are TF-Slim's scopes with "." for "/", which Keras does not allow in a layer's name.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from nets.conventions.layout import channel_axis, image

MIN_IMAGE_SIZE = 75
"""Smallest image that leaves Mixed_7a one pixel."""

Step = tuple[str, int, int | tuple[int, int]]
"""A convolution of a branch: its name, filters and kernel."""


def inception_v3(num_classes: int = 1000, image_size: int = 299, keep_prob: float = 0.8) -> keras.Model:
    """Inception V3: `[batch, image_size, image_size, 3]` -> logits `[batch, num_classes]`; in training [logits, aux].

    27,143,152 trainable parameters with the auxiliary head, which runs in training only. Dropout keeps `keep_prob` of
    the pooled features in training.
    """
    return InceptionV3(num_classes, image_size, keep_prob, name="inception_v3")


@keras.saving.register_keras_serializable("nets")
class InceptionV3(keras.Model):
    """Trunk and auxiliary head as two models: `call(x)` runs the trunk, `call(x, training=True)` runs both."""

    def __init__(self, num_classes: int, image_size: int, keep_prob: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._arguments = {"num_classes": num_classes, "image_size": image_size, "keep_prob": keep_prob}
        self.trunk = _trunk(num_classes, image_size, keep_prob)
        self.auxiliary = _auxiliary_head(self.trunk.output[1].shape[1:], num_classes)
        self.built = True

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The same as a functional model's: batch (None), then the image in Keras' order of axes."""
        shape: tuple[int | None, ...] = self.trunk.input_shape
        return shape

    def call(self, x: Any, training: bool = False) -> Any:
        logits, mixed_6e = self.trunk(x, training=training)
        if not training:
            return logits
        return [logits, self.auxiliary(mixed_6e, training=True)]

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, **self._arguments}


def _trunk(num_classes: int, image_size: int, keep_prob: float) -> keras.Model:
    """-> logits `[batch, num_classes]` and Mixed_6e `[batch, 17, 17, 768]` at 299, the auxiliary head's input."""
    inputs = image(image_size)
    x = _conv(inputs, "Conv2d_1a_3x3", 32, 3, strides=2, padding="valid")
    x = _conv(x, "Conv2d_2a_3x3", 32, 3, padding="valid")
    x = _conv(x, "Conv2d_2b_3x3", 64, 3)
    x = layers.MaxPooling2D(3, strides=2, name="MaxPool_3a_3x3")(x)
    x = _conv(x, "Conv2d_3b_1x1", 80, 1, padding="valid")
    x = _conv(x, "Conv2d_4a_3x3", 192, 3, padding="valid")
    x = layers.MaxPooling2D(3, strides=2, name="MaxPool_5a_3x3")(x)
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _mixed_5(x, name, pooled)
    x = _mixed_6a(x)
    for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _mixed_6(x, name, width)
    mixed_6e = x
    x = _mixed_7a(x)
    for name in ("Mixed_7b", "Mixed_7c"):
        x = _mixed_7(x, name)
    x = layers.GlobalAveragePooling2D(name="AvgPool_1a_8x8")(x)
    x = layers.Dropout(1 - keep_prob, name="Dropout_1b")(x)
    logits = layers.Dense(num_classes, kernel_initializer=_truncated_normal(0.1), name="Logits")(x)
    return keras.Model(inputs, [logits, mixed_6e], name="InceptionV3")


def _auxiliary_head(shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Mixed_6e -> logits `[batch, num_classes]`. Kernels shrink with images under 299, where 17x17 is not reached."""
    features = keras.Input(shape, name="Mixed_6e")
    pool = min(5, shape[1])
    x = layers.AveragePooling2D(pool, strides=3, name="AuxLogits.AvgPool_1a_5x5")(features)
    x = _conv(x, "AuxLogits.Conv2d_1b_1x1", 128, 1)
    x = _conv(x, "AuxLogits.Conv2d_2a_5x5", 768, min(5, x.shape[2]), padding="valid", stddev=0.01)
    x = layers.GlobalAveragePooling2D(name="AuxLogits.SpatialSqueeze")(x)
    logits = layers.Dense(num_classes, kernel_initializer=_truncated_normal(0.001), name="AuxLogits.Logits")(x)
    return keras.Model(features, logits, name="AuxLogits")


def _mixed_5(x: Any, name: str, pooled: int) -> Any:
    """35x35 at 299: 64 + 64 + 96 + `pooled` channels. TF-Slim names two convolutions of Mixed_5c unlike the others."""
    tail = ("Conv2d_0b_1x1", "Conv_1_0c_5x5") if name == "Mixed_5c" else ("Conv2d_0a_1x1", "Conv2d_0b_5x5")
    branches = [
        _branch(x, f"{name}.Branch_0", ("Conv2d_0a_1x1", 64, 1)),
        _branch(x, f"{name}.Branch_1", (tail[0], 48, 1), (tail[1], 64, 5)),
        _branch(x, f"{name}.Branch_2", ("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3), ("Conv2d_0c_3x3", 96, 3)),
        _pooled_branch(x, f"{name}.Branch_3", pooled),
    ]
    return layers.Concatenate(channel_axis(), name=name)(branches)


def _mixed_6a(x: Any) -> Any:
    """35x35 to 17x17 at 299: 384 + 96 channels, and those that come in."""
    branch_1 = _branch(x, "Mixed_6a.Branch_1", ("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3))
    branches = [
        _conv(x, "Mixed_6a.Branch_0.Conv2d_1a_1x1", 384, 3, strides=2, padding="valid"),
        _conv(branch_1, "Mixed_6a.Branch_1.Conv2d_1a_1x1", 96, 3, strides=2, padding="valid"),
        layers.MaxPooling2D(3, strides=2, name="Mixed_6a.Branch_2.MaxPool_1a_3x3")(x),
    ]
    return layers.Concatenate(channel_axis(), name="Mixed_6a")(branches)


def _mixed_6(x: Any, name: str, width: int) -> Any:
    """17x17 at 299: four branches of 192 channels; 7x7 kernels as 1x7 and 7x1 of `width` filters."""
    branches = [
        _branch(x, f"{name}.Branch_0", ("Conv2d_0a_1x1", 192, 1)),
        _branch(
            x,
            f"{name}.Branch_1",
            ("Conv2d_0a_1x1", width, 1),
            ("Conv2d_0b_1x7", width, (1, 7)),
            ("Conv2d_0c_7x1", 192, (7, 1)),
        ),
        _branch(
            x,
            f"{name}.Branch_2",
            ("Conv2d_0a_1x1", width, 1),
            ("Conv2d_0b_7x1", width, (7, 1)),
            ("Conv2d_0c_1x7", width, (1, 7)),
            ("Conv2d_0d_7x1", width, (7, 1)),
            ("Conv2d_0e_1x7", 192, (1, 7)),
        ),
        _pooled_branch(x, f"{name}.Branch_3", 192),
    ]
    return layers.Concatenate(channel_axis(), name=name)(branches)


def _mixed_7a(x: Any) -> Any:
    """17x17 to 8x8 at 299: 320 + 192 channels, and those that come in."""
    branch_0 = _branch(x, "Mixed_7a.Branch_0", ("Conv2d_0a_1x1", 192, 1))
    branch_1 = _branch(
        x,
        "Mixed_7a.Branch_1",
        ("Conv2d_0a_1x1", 192, 1),
        ("Conv2d_0b_1x7", 192, (1, 7)),
        ("Conv2d_0c_7x1", 192, (7, 1)),
    )
    branches = [
        _conv(branch_0, "Mixed_7a.Branch_0.Conv2d_1a_3x3", 320, 3, strides=2, padding="valid"),
        _conv(branch_1, "Mixed_7a.Branch_1.Conv2d_1a_3x3", 192, 3, strides=2, padding="valid"),
        layers.MaxPooling2D(3, strides=2, name="Mixed_7a.Branch_2.MaxPool_1a_3x3")(x),
    ]
    return layers.Concatenate(channel_axis(), name="Mixed_7a")(branches)


def _mixed_7(x: Any, name: str) -> Any:
    """8x8 at 299: 320 + 768 + 768 + 192 channels; 3x3 kernels end side by side as 1x3 and 3x1."""
    branch_1 = _branch(x, f"{name}.Branch_1", ("Conv2d_0a_1x1", 384, 1))
    branch_2 = _branch(x, f"{name}.Branch_2", ("Conv2d_0a_1x1", 448, 1), ("Conv2d_0b_3x3", 384, 3))
    tall = "Conv2d_0b_3x1" if name == "Mixed_7b" else "Conv2d_0c_3x1"
    branches = [
        _branch(x, f"{name}.Branch_0", ("Conv2d_0a_1x1", 320, 1)),
        _branch(branch_1, f"{name}.Branch_1", ("Conv2d_0b_1x3", 384, (1, 3))),
        _branch(branch_1, f"{name}.Branch_1", (tall, 384, (3, 1))),
        _branch(branch_2, f"{name}.Branch_2", ("Conv2d_0c_1x3", 384, (1, 3))),
        _branch(branch_2, f"{name}.Branch_2", ("Conv2d_0d_3x1", 384, (3, 1))),
        _pooled_branch(x, f"{name}.Branch_3", 192),
    ]
    return layers.Concatenate(channel_axis(), name=name)(branches)


def _branch(x: Any, name: str, *steps: Step) -> Any:
    for step, filters, kernel in steps:
        x = _conv(x, f"{name}.{step}", filters, kernel)
    return x


def _pooled_branch(x: Any, name: str, filters: int) -> Any:
    x = layers.AveragePooling2D(3, strides=1, padding="same", name=f"{name}.AvgPool_0a_3x3")(x)
    return _conv(x, f"{name}.Conv2d_0b_1x1", filters, 1)


def _conv(
    x: Any,
    name: str,
    filters: int,
    kernel: int | tuple[int, int],
    strides: int = 1,
    padding: str = "same",
    stddev: float = 0.1,
) -> Any:
    """Convolution without bias, batch normalisation without scale (ReLU follows, the next layer can scale), ReLU."""
    conv = layers.Conv2D(
        filters,
        kernel,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=_truncated_normal(stddev),
        name=name,
    )
    x = layers.BatchNormalization(channel_axis(), momentum=0.9997, epsilon=0.001, scale=False, name=f"{name}.norm")(
        conv(x)
    )
    return layers.ReLU(name=f"{name}.relu")(x)


def _truncated_normal(stddev: float) -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=stddev)

"""Local response normalisation (Krizhevsky et al. 2012, section 3.3) as a Keras layer."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("nets")
class LocalResponseNormalization(keras.layers.Layer):
    """`x / (bias + alpha * sum of squares over 2 * depth_radius + 1 neighbouring channels) ** beta`; keeps the shape.

    Always computed in float32: TensorFlow has no bfloat16 kernel for it on the CPU and no other kernel on the GPU.
    """

    def __init__(
        self,
        depth_radius: int,
        alpha: float,
        beta: float,
        bias: float = 1.0,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format or keras.config.image_data_format()
        self.depth_radius = depth_radius
        self.alpha = alpha
        self.beta = beta
        self.bias = bias

    def call(self, x: tf.Tensor) -> tf.Tensor:
        y = tf.cast(x, tf.float32)
        if self.data_format == "channels_first":  # TensorFlow has it for channels last only
            y = tf.transpose(y, (0, 2, 3, 1))
        y = tf.nn.local_response_normalization(y, self.depth_radius, self.bias, self.alpha, self.beta)
        if self.data_format == "channels_first":
            y = tf.transpose(y, (0, 3, 1, 2))
        return tf.cast(y, x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"depth_radius": self.depth_radius, "alpha": self.alpha, "beta": self.beta, "bias": self.bias}
        return {**super().get_config(), **own, "data_format": self.data_format}

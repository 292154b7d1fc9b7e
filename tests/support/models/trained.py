"""Models that are compiled by their own function, or that have their own way to train."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers


def compiled(loss: Any = "mean_absolute_error", metrics: Any = ("mean_squared_error",)) -> keras.Model:
    """A net compiled with Nadam, a loss and a metric."""
    model = _small()
    model.compile(optimizer=keras.optimizers.Nadam(0.125), loss=loss, metrics=list(metrics), jit_compile=False)
    return model


def pair(inputs: int = 4) -> keras.Model:
    """Two outputs in a dictionary: probabilities of five classes, and of a yes."""
    x = keras.Input((inputs,))
    return keras.Model(
        x, {"kind": layers.Dense(5, activation="softmax")(x), "yes": layers.Dense(1, activation="sigmoid")(x)}
    )


class Own(keras.Model):
    """A `train_step` of its own, which says so in its metrics; its optimizer is only an attribute."""

    def __init__(self, optimizer: str = "rmsprop") -> None:
        super().__init__()
        self.inner = _small()
        self.mine = keras.optimizers.get(optimizer)
        self.inputs_seen = keras.Input((4,))
        self(tf.zeros((1, 4)))

    def call(self, x: Any, training: bool = False) -> Any:
        return self.inner(x, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.abs(self(x, training=True) - y)) * 3
        weights = self.trainable_variables
        self.mine.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"my_own": loss}


def of_its_own() -> keras.Model:
    return Own()


def my_loss(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1) * 2


def _small() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(3)(layers.Dense(8, activation="relu")(x)))

"""Small models of every kind that people bring along, for sweeps with `model._target_`, and files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

WORDS, LENGTH = 50, 12


def two_inputs() -> keras.Model:
    one, other = keras.Input((8,), name="one"), keras.Input((4,), name="other")
    return keras.Model([one, other], layers.Dense(3)(layers.Concatenate()([one, other])))


def by_name() -> keras.Model:
    """Whole numbers, truth values and floats under their names."""
    taken = {
        "words": keras.Input((LENGTH,), dtype="int64", name="words"),
        "mask": keras.Input((LENGTH,), dtype="bool", name="mask"),
        "age": keras.Input((1,), name="age"),
    }
    x = layers.GlobalAveragePooling1D()(layers.Embedding(WORDS, 4)(taken["words"]), mask=taken["mask"])
    return keras.Model(taken, layers.Dense(1, activation="sigmoid")(layers.Concatenate()([x, taken["age"]])))


def tokens() -> keras.Model:
    words = keras.Input((LENGTH,), dtype="int32", name="words")
    return keras.Model(words, layers.Dense(WORDS)(layers.Embedding(WORDS, 8)(words)))


def open_tokens() -> keras.Model:
    words = keras.Input((None,), dtype="int32", name="words")
    return keras.Model(words, layers.Dense(2)(layers.GRU(4)(layers.Embedding(WORDS, 8)(words))))


def unbounded() -> keras.Model:
    """Whole numbers that nothing looks up."""
    count = keras.Input((3,), dtype="int32", name="count")
    return keras.Model(count, layers.Dense(2)(keras.ops.cast(count, "float32")))


def text() -> keras.Model:
    words = keras.Input((), dtype="string", name="words")
    return keras.Model(words, layers.Hashing(9)(words))


def open_image() -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(image))
    return keras.Model(image, layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x)))


def lstm() -> keras.Model:
    series = keras.Input((None, 6), name="series")
    return keras.Model(series, layers.Dense(1)(layers.LSTM(4)(series)))


def conv1d() -> keras.Model:
    signal = keras.Input((None, 2), name="signal")
    return keras.Model(signal, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Conv1D(4, 3)(signal))))


def unbuilt() -> keras.Model:
    return keras.Sequential([layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2)])


class Subclassed(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.conv, self.pool, self.dense = layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3)
        self.normal = layers.BatchNormalization()

    def call(self, image: Any, training: bool = False) -> Any:
        return self.dense(self.pool(self.normal(self.conv(image), training=training)))


def subclassed() -> keras.Model:
    return Subclassed()


def five_outputs() -> keras.Model:
    given = keras.Input((8,), name="given")
    x = layers.Dense(8, activation="relu")(given)
    kinds = (None, "softmax", "sigmoid", "linear", "relu")
    return keras.Model(given, [layers.Dense(4, activation=kind, name=f"out_{i}")(x) for i, kind in enumerate(kinds)])


class Scaled(layers.Layer):  # type: ignore[misc]
    """A layer of the user's own with a weight."""

    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, values: Any) -> Any:
        return values * self.scale


def custom_layer() -> keras.Model:
    given = keras.Input((8,), name="given")
    return keras.Model(given, layers.Dense(3)(Scaled()(given)))


def compiled() -> keras.Model:
    model = custom_layer()
    model.compile(optimizer=keras.optimizers.RMSprop(0.003), loss="mean_absolute_error")
    return model


class WithItsOwnStep(Subclassed):
    """Two forward passes in each step, as contrastive learning has."""

    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        image = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(image, training=True) - self(-image, training=True)) ** 2)
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"contrast": loss}


def own_step() -> keras.Model:
    model = WithItsOwnStep()
    model.compile(optimizer=keras.optimizers.Adam(0.001))
    return model


class Adversarial(keras.Model):  # type: ignore[misc]
    """Two nets with an optimizer each; its step takes images alone."""

    def __init__(self) -> None:
        super().__init__(name="adversarial")
        self.judge = keras.Sequential([layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(1)])
        self.maker = keras.Sequential([layers.Dense(10 * 12 * 3), layers.Reshape((10, 12, 3))])

    def compile(self, first: Any, second: Any) -> None:
        super().compile()
        self.judges, self.makes = first, second

    def call(self, images: Any) -> Any:
        self.maker(keras.ops.ones((1, 5)))  # creates its variables
        return self.judge(images)

    def train_step(self, images: Any) -> Any:
        import tensorflow as tf

        noise = tf.random.normal((tf.shape(images)[0], 5))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.judge(self.maker(noise))) - tf.reduce_mean(self.judge(images))
        weights = self.judge.trainable_variables
        self.judges.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            made = -tf.reduce_mean(self.judge(self.maker(noise)))
        weights = self.maker.trainable_variables
        self.makes.apply_gradients(zip(tape.gradient(made, weights), weights, strict=True))
        return {"judge": loss, "maker": made}


def adversarial() -> keras.Model:
    model = Adversarial()
    model.compile(keras.optimizers.Adam(0.0002), keras.optimizers.RMSprop(0.0002))
    return model


def batch(batch: int, seed: int) -> Any:
    """Images and their classes for `open_image`."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, 10, 10, 3)), rng.integers(0, 5, batch)


def save(folder: Path) -> dict[str, Path]:
    """Save a net with batch normalisation and dropout in each of the formats; return the paths."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Dropout(0.5)(layers.Flatten()(layers.BatchNormalization()(layers.Conv2D(4, 3)(image))))
    model = keras.Model(image, layers.Dense(3)(x))
    paths = {kind: folder / name for kind, name in (("keras", "a.keras"), ("h5", "b.h5"), ("folder", "c"))}
    model.save(paths["keras"])
    model.save(paths["h5"])
    model.export(str(paths["folder"]), verbose=False)
    return paths

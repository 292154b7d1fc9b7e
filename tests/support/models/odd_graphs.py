"""Nets that look up tokens, that compute less or more than their layers say, or that are subclassed."""

from __future__ import annotations

import keras
import tensorflow as tf


class Spy(keras.layers.Layer):  # type: ignore[misc]
    """A layer that passes its input on and prints, when it runs, its lowest and highest value and the distinct ones."""

    def call(self, x):  # type: ignore[no-untyped-def]
        flat = tf.reshape(tf.cast(x, tf.float32), [-1])
        count = tf.size(tf.unique(flat)[0])
        with tf.control_dependencies([tf.print("SPY", tf.reduce_min(flat), tf.reduce_max(flat), count, summarize=-1)]):
            return tf.identity(x)


def tokens(kind: str = "embedding", size: int = 1000, length: int = 64, dtype: str = "int32") -> keras.Model:
    """A net whose tokens are looked up in one of many ways."""
    given = keras.Input((length,), dtype=dtype, name="tokens")
    seen = Spy()(given) if kind != "unspied" else given
    x = looked_up(kind, seen, size)
    return keras.Model(given, keras.layers.Dense(4)(keras.layers.Flatten()(x)))


def looked_up(kind: str, x, size: int):  # type: ignore[no-untyped-def]
    table = keras.ops.ones((size, 8))
    if kind == "masked":
        return keras.layers.LSTM(3)(keras.layers.Embedding(size, 8, mask_zero=True)(x))
    if kind == "take":
        return keras.ops.take(table, keras.ops.expand_dims(x, -1), axis=0)
    if kind == "gather":
        return keras.layers.Lambda(lambda x: tf.gather(tf.ones((size, 8)), x[:, ::2]), output_shape=(32, 8))(x)
    if kind == "one_hot":
        return keras.ops.one_hot(x, size)
    if kind == "category":
        return keras.layers.CategoryEncoding(size, output_mode="multi_hot")(x)
    if kind == "smallest":
        both = [keras.layers.Embedding(rows, 8)(x) for rows in (size, 3 * size)]
        return keras.layers.Add()(both)
    if kind == "offset":
        return keras.layers.Embedding(size, 8)(x + 5)
    if kind == "counts":
        return keras.ops.cast(x, "float32")
    if kind == "vocabulary":
        return keras.ops.cast(keras.layers.IntegerLookup(vocabulary=[7, 70, 700])(x), "float32")
    return keras.layers.Embedding(size, 8)(x)


def pruned() -> keras.Model:
    """A net with the layer of a large product that its output does not need."""

    class Idle(keras.layers.Dense):  # type: ignore[misc]
        def call(self, x, training=None):  # type: ignore[no-untyped-def]
            super().call(x, training=training)
            return keras.ops.zeros((keras.ops.shape(x)[0], self.units))

    inputs = keras.Input((64, 64, 3))
    hidden = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, Idle(8192)(hidden))


def mostly_pruned() -> keras.Model:
    """A net with a large product that is unused, and a small one that is its output."""

    class Idle(keras.layers.Dense):  # type: ignore[misc]
        def call(self, x, training=None):  # type: ignore[no-untyped-def]
            super().call(x, training=training)
            return x[:, : self.units]

    inputs = keras.Input((64, 64, 3))
    hidden = Idle(8192)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


def broken(kind: str) -> keras.Model:
    """A net that computes something other than its layers say."""
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Flatten()(inputs)
    if kind == "frozen":
        model = keras.Model(inputs, keras.layers.Dense(4)(x))
        model.trainable = False
        return model
    if kind == "no_gradient":
        return keras.Model(inputs, keras.ops.stop_gradient(keras.layers.Dense(4)(x)))
    if kind == "some_gradient":
        return keras.Model(
            inputs, keras.layers.Dense(4)(keras.ops.stop_gradient(keras.layers.Dense(4, name="lost")(x)))
        )
    if kind == "zeros":
        return keras.Model(inputs, keras.layers.Dense(4)(keras.ops.zeros_like(x)))
    if kind == "twice":  # the same numbers: a table of constants, not a layer's weights
        table = keras.ops.ones((192, 4))
        both = [keras.ops.matmul(x, table) for _ in range(2)]
        return keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Add()(both)))
    if kind == "log":
        return keras.Model(inputs, keras.layers.Dense(4)(keras.ops.log(x)))
    if kind == "raw":
        product = keras.layers.Lambda(lambda x: tf.matmul(x, tf.ones((192, 64))), output_shape=(64,), name="raw")
        return keras.Model(inputs, keras.layers.Dense(4)(product(x)))
    if kind == "sliced":  # the first 64 of 68 features are of no use
        unused = keras.layers.Dense(64)(keras.layers.Dense(64)(x))
        return keras.Model(inputs, keras.layers.Concatenate()([unused, keras.layers.Dense(4)(x)])[:, 64:])
    if kind == "loop":  # each turn is too small to show beside the layer
        loop = keras.layers.Lambda(_centred, output_shape=(192,))
        return keras.Model(inputs, keras.layers.Dense(64)(loop(x)))
    if kind == "fourier":
        transform = keras.layers.Lambda(lambda x: tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64))))
        return keras.Model(inputs, keras.layers.Dense(64)(transform(x)))
    raise ValueError(kind)


def _centred(x: tf.Tensor) -> tf.Tensor:
    """Subtract the rows' means from the tensor, a hundred times."""
    mean = tf.fill((192, 1), 1 / 192)
    turn = (lambda index, _: index < 100, lambda index, x: (index + 1, x - tf.matmul(x, mean)))
    return tf.while_loop(*turn, (0, x), maximum_iterations=100)[1]


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model whose inputs are only known from its `build`."""

    def __init__(self) -> None:
        super().__init__(name="subclassed")
        self.conv = keras.layers.Conv2D(4, 3, name="conv")
        self.flatten = keras.layers.Flatten(name="flatten")
        self.dense = keras.layers.Dense(3, name="dense")

    def call(self, image):  # type: ignore[no-untyped-def]
        return self.dense(self.flatten(self.conv(image)))


def subclassed(build: bool = True) -> keras.Model:
    model = Subclassed()
    if build:
        model.build((None, 8, 8, 3))
    return model

"""Small nets that work, some of them slowly; `model._target_=tests.support.models.healthy.NAME` runs them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import keras

import nets


def small(width: int = 4) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(width, name="logits")(keras.layers.Flatten()(inputs)))


def classes(num_classes: int = 4) -> keras.Model:
    """A net with an argument that our own nets have, too."""
    return small(num_classes)


def scaled_softmax(num_classes: int) -> keras.Model:
    """A linear net that scales its pictures itself and ends in a softmax."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(num_classes, activation="softmax", name="head")(x))


def first_class_only(num_classes: int) -> keras.Model:
    """A net that predicts the first class for every picture."""
    inputs = keras.Input((8, 8, 3))
    bias = keras.initializers.Constant([5.0] + [0.0] * (num_classes - 1))
    head = keras.layers.Dense(num_classes, kernel_initializer="zeros", bias_initializer=bias)
    return keras.Model(inputs, head(keras.layers.Flatten()(inputs)))


def frozen(num_classes: int) -> keras.Model:
    """A net without trainable weights."""
    model = small(num_classes)
    model.trainable = False
    return model


def slow_to_trace(seconds: float) -> keras.Model:
    """A net whose tracing takes so long that it shows in the time of a step on any machine."""

    class Slow(keras.layers.Flatten):  # type: ignore[misc]
        def call(self, x):  # type: ignore[no-untyped-def]
            time.sleep(seconds)
            return super().call(x)

    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(Slow()(inputs)))


def waiting() -> keras.Model:
    """A net that waits for the file `go` in the current folder, and takes it."""
    while True:
        try:
            Path("go").unlink()
        except FileNotFoundError:
            time.sleep(0.01)
        else:
            return nets.build("tiny")


def waiting_for(path: str) -> keras.Model:
    """A net that waits for a file."""
    while not Path(path).exists():
        time.sleep(0.01)
    return nets.build("tiny")


def meeting(folder: str, count: int) -> keras.Model:
    """A net that waits until `count` processes are about to build theirs."""
    Path(folder, f"{os.getpid()}.here").touch()
    while len(list(Path(folder).glob("*.here"))) < count:
        time.sleep(0.01)
    return nets.build("tiny")

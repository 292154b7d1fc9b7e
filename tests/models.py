"""Nets that fail in every way a trial can fail; `model._target_=tests.models.NAME` runs them."""

from __future__ import annotations

import ctypes
import os
import signal
import time

import keras

import nets


def small(width: int = 4) -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(width, name="logits")(keras.layers.Flatten()(inputs)))


def raising() -> keras.Model:
    raise ValueError("expected a good day. Received: a bad one")


def segfaulting() -> keras.Model:
    ctypes.string_at(0)
    return nets.build("tiny")


def killed() -> keras.Model:
    os.kill(os.getpid(), signal.SIGKILL)
    return nets.build("tiny")


def exiting() -> keras.Model:
    os._exit(7)


def hanging() -> keras.Model:
    time.sleep(3600)
    return nets.build("tiny")


def exhausting() -> keras.Model:
    """A net that asks for more memory than any machine has."""
    keras.ops.zeros((2**22, 2**22))
    return nets.build("tiny")


def failing_backward() -> keras.Model:
    """A net whose forward pass is fine and whose training mode is not."""

    class Moody(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x, training=False):  # type: ignore[no-untyped-def]
            if training:
                raise RuntimeError("not today")
            return x

    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Dense(3)(Moody()(keras.layers.Flatten()(inputs))))


def pruned() -> keras.Model:
    """A net that says it computes a large product and whose output needs none of it."""

    class Idle(keras.layers.Dense):  # type: ignore[misc]
        def call(self, x, training=None):  # type: ignore[no-untyped-def]
            super().call(x, training=training)
            return keras.ops.zeros((keras.ops.shape(x)[0], self.units))

    inputs = keras.Input((64, 64, 3))
    hidden = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, Idle(8192)(hidden))

"""AlexNet's convolutions with a known delay in every step: the slow-down that a comparison has to find.

`model._target_=benchmarks.trust.delayed.alexnet`; the environment variable DELAY_S sets the delay in seconds, so that
the delayed and the undelayed sweep run the same trial.
"""

from __future__ import annotations

import os
import time

import keras
import numpy as np
import tensorflow as tf

import nets


def alexnet() -> keras.Model:
    seconds = float(os.environ.get("DELAY_S", "0"))
    net = nets.build("alexnet_conv")

    def wait(x: np.ndarray) -> np.ndarray:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        return x

    class Delay(keras.layers.Layer):
        """Delays one number of the input, and with it everything that follows."""

        def call(self, x: tf.Tensor) -> tf.Tensor:
            held = tf.numpy_function(wait, [x[0, 0, 0, 0]], tf.float32, stateful=True)
            with tf.control_dependencies([held]):
                return tf.identity(x)

    inputs = keras.Input(net.input_shape[1:])
    return keras.Model(inputs, net(Delay()(inputs)))

"""What the fork server does once so that no trial has to: first calls, which import, look up and cache.

The net is built and differentiated as symbols in a graph that is thrown away: nothing here runs on a device or starts
TensorFlow's runtime, whose threads would not survive a fork. What a trial could notice is put back.
"""

from __future__ import annotations

import random

import keras
import tensorflow as tf

import nets
from sweeps import host
from sweeps.tasks.benchmark import step_function


def warm() -> None:
    """Fill Python's caches on the way of a trial; leaves no seed drawn and no layer name taken."""
    state = random.getstate()
    host.facts()
    with tf.Graph().as_default():
        model = nets.build("tiny")
        images = keras.random.normal((1, *model.input_shape[1:]), stddev=0.1, seed=0)
        # TensorFlow's tape would start the runtime.
        outputs = step_function("forward", model, images, "eager")()
        tf.gradients(tf.nn.l2_loss(outputs), model.trainable_variables)
    keras.utils.clear_session()  # Keras counts layers to name them
    random.setstate(state)  # initializers without a seed draw one here

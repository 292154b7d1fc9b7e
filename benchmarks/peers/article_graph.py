"""Times a TensorFlow 1 graph under `session.run`, as TensorFlow-benchmark articles do; it copies results to the host.

usage: article_graph.py MODEL BATCH BURN_IN STEPS; prints {pass: [seconds, ...]} as JSON. MODEL: alexnet_conv or vgg16.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

ALEXNET: tuple[tuple[str, int, int, int] | None, ...] = (
    *(("conv1", 64, 11, 4), None, ("conv2", 192, 5, 1), None),
    *(("conv3", 384, 3, 1), ("conv4", 256, 3, 1), ("conv5", 256, 3, 1), None),
)
"""Convolutions as name, width, kernel side and stride; None is a pooling layer."""
VGG: tuple[int | None, ...] = tuple(
    width for count, block in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)) for width in (*(block,) * count, None)
)
"""Widths of the convolutions; None is a pooling layer."""


def convolution(x: Any, name: str, width: int, side: int, stride: int, initializer: Any) -> Any:
    kernel = tf.get_variable(f"{name}_w", (side, side, x.shape[-1], width), initializer=initializer)
    biases = tf.get_variable(f"{name}_b", (width,), initializer=tf.zeros_initializer())
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, (1, stride, stride, 1), "SAME"), biases))


def alexnet_conv(x: Any, keep_prob: Any) -> tuple[Any, Any]:
    del keep_prob
    initializer = tf.truncated_normal_initializer(stddev=0.1)
    for layer in ALEXNET:
        x = convolution(x, *layer, initializer) if layer else tf.nn.max_pool2d(x, 3, 2, "VALID")
    return x, x


def vgg16(x: Any, keep_prob: Any) -> tuple[Any, Any]:
    glorot = tf.glorot_uniform_initializer()
    for index, width in enumerate(VGG):
        x = convolution(x, f"conv{index}", width, 3, 1, glorot) if width else tf.nn.max_pool2d(x, 2, 2, "SAME")
    x = tf.reshape(x, (-1, 7 * 7 * 512))
    for name, width in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        kernel = tf.get_variable(f"{name}_w", (x.shape[-1], width), initializer=glorot)
        biases = tf.get_variable(f"{name}_b", (width,), initializer=tf.constant_initializer(0.1))
        x = tf.nn.relu(tf.nn.bias_add(tf.matmul(x, kernel), biases))
        if name != "fc8":
            x = tf.nn.dropout(x, rate=1 - keep_prob)
    return tf.argmax(tf.nn.softmax(x), axis=1), x


def timed(run: Callable[[], object], burn_in: int, steps: int) -> list[float]:
    """Return the seconds of each of `steps` calls, after one that compiles and `burn_in` more."""
    seconds = []
    for index in range(burn_in + 1 + steps):
        start = time.time()
        run()
        if index > burn_in:
            seconds.append(time.time() - start)
    return seconds


def main(name: str, batch: int, burn_in: int, steps: int) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.Variable(tf.random_normal((batch, 224, 224, 3), stddev=0.1), trainable=False)
        keep_prob = tf.placeholder(tf.float32)
        prediction, logits = {"alexnet_conv": alexnet_conv, "vgg16": vgg16}[name](images, keep_prob)
        gradients = tf.gradients(tf.nn.l2_loss(logits), tf.trainable_variables())
        session.run(tf.global_variables_initializer())
        seconds = {
            "forward": timed(lambda: session.run(prediction, {keep_prob: 1.0}), burn_in, steps),
            "forward_backward": timed(lambda: session.run(gradients, {keep_prob: 0.5}), burn_in, steps),
        }
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

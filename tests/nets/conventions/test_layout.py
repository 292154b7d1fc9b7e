"""Channels first, each net computes what it computes channels last, forward and backward, from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import nets
from nets.conventions.layout import BadLayout, build_in
from nets.counting.layers import rows


@pytest.fixture(autouse=True)
def setting() -> Iterator[None]:
    yield
    keras.config.set_image_data_format("channels_last")


def in_both(make: Callable[[], keras.Model]) -> tuple[keras.Model, keras.Model]:
    """The net channels last and channels first, with the same weights."""
    keras.utils.set_random_seed(0)
    last = build_in("channels_last", make)
    keras.config.set_image_data_format("channels_first")
    first = build_in("channels_first", make)
    first.set_weights(last.get_weights())
    return last, first


def outputs_and_gradients(model: keras.Model, images: Any) -> tuple[list[Any], list[Any]]:
    # In inference mode the statistics of batch normalisation do not magnify the last digits.
    if model.name in _FORWARD_ONLY:
        return tf.nest.flatten(model(images, training=False)), []
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(model(images, training=False))
        loss = tf.add_n([tf.nn.l2_loss(output) for output in outputs])
    return outputs, tape.gradient(loss, model.trainable_variables)


_FORWARD_ONLY = ("inception_v3", "MobileNetV2")
"""Nets whose kinds of layers are in the others, and which take long to go back through."""


def expect_close(found: Any, expected: Any) -> None:
    """As a whole to 5e-3: where a ReLU's input is next to nothing, the last digit decides whether it passes."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.linalg.norm(found - expected) <= 5e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("alexnet", {"image_size": 67, "keep_prob": 1.0}),
        ("alexnet_conv", {"image_size": 67, "lrn": True}),
        ("vgg16", {"image_size": 32, "keep_prob": 1.0}),
        ("inception_v3", {"image_size": 75}),
        ("resnet_v2_50", {"image_size": 33}),
        ("tiny", {}),
        ("MobileNetV2", {"image_size": 32}),
    ],
)
def test_the_numbers_are_those_of_channels_last(name: str, args: dict[str, Any]) -> None:
    last, first = in_both(lambda: nets.build(name, **args))
    images = keras.random.normal((2, *last.input_shape[1:]), seed=1)
    assert first.input_shape[1:] == (3, *last.input_shape[1:3])
    (expected, gradients) = outputs_and_gradients(last, images)
    (found, theirs) = outputs_and_gradients(first, tf.transpose(images, (0, 3, 1, 2)))
    if name == "alexnet_conv":
        found = [tf.transpose(found[0], (0, 2, 3, 1))]
    for one, other in zip([*found, *theirs], [*expected, *gradients], strict=True):
        expect_close(one, other)
    kinds = [[(row.kind, row.flops, row.trainable_params) for row in rows(model, 2)] for model in (last, first)]
    assert kinds[0] == kinds[1]


def test_inceptions_auxiliary_head_follows_too() -> None:
    last, first = in_both(lambda: nets.build("inception_v3", image_size=75, keep_prob=1.0))
    features = keras.random.normal((2, *last.auxiliary.input_shape[1:]), seed=1)
    found = first.auxiliary(tf.transpose(features, (0, 3, 1, 2)))
    expect_close(found, last.auxiliary(features))


def deaf_to_the_setting() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs))


def half_deaf() -> keras.Model:
    inputs = keras.Input((3, 8, 8) if keras.config.image_data_format() == "channels_first" else (8, 8, 3))
    x = keras.layers.Conv2D(8, 1)(inputs)
    x = keras.layers.MaxPooling2D(2, data_format="channels_last", name="pool")(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (deaf_to_the_setting, r"a shape \(None, 3, 8, 8\). Received: \(None, 8, 8, 3\)"),
        (half_deaf, "Received: pool channels last"),
    ],
)
def test_a_net_that_does_not_follow_is_refused(make: Callable[[], keras.Model], words: str) -> None:
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(BadLayout, match=words):
        build_in("channels_first", make)

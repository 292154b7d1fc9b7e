"""The nets compute what independent implementations of them compute from the same weights."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

import nets

Array = NDArray[Any]


def image(size: int, batch: int = 2, stddev: float = 1.0) -> Array:
    return (np.random.default_rng(0).normal(size=(batch, size, size, 3)) * stddev).astype("float32")


def expect_close(found: Any, expected: Any) -> None:
    """To 1e-4 of the largest logit, and the logits are not all alike."""
    found, expected = np.asarray(found, "float64"), np.asarray(expected, "float64")
    assert expected.std() > 1e-3 * np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def shake(model: keras.Model) -> None:
    """Statistics, scales and biases that differ from channel to channel, so that mixing them up shows."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(rng.normal(0, 0.1, variable.shape))


def test_vgg16_is_that_of_keras() -> None:
    """At 64 pixels every pool halves an even size, where Keras' VALID pools are our SAME ones."""
    theirs = keras.applications.VGG16(weights=None, input_shape=(64, 64, 3), classifier_activation=None)
    ours = nets.build("vgg16", image_size=64)
    shake(theirs)
    ours.set_weights(theirs.get_weights())
    x = image(64)
    expect_close(ours(x), theirs(x))


def test_resnet_v2_50_is_that_of_keras() -> None:
    """Keras' differs in two places, which are made alike here.

    Its batch normalisation has epsilon 1.001e-5: set to ours. It pads pool1 with zeros, one on every side, where SAME
    pads with minus infinity, and on an even side after only: 65 pixels give conv1 an odd side of 33, and a large bias
    in conv1 makes every value positive, so that neither padding is ever the largest.
    """
    theirs = keras.applications.ResNet50V2(weights=None, input_shape=(65, 65, 3), classifier_activation=None)
    ours = nets.build("resnet_v2_50", image_size=65)
    shake(theirs)
    theirs.get_layer("conv1_conv").bias.assign(np.full(64, 40.0))
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = 1e-5
    parts = {"1_conv": "conv1", "1_bn": "conv1.norm", "2_conv": "conv2", "2_bn": "conv2.norm", "3_conv": "conv3"}
    parts |= {"preact_bn": "preact", "0_conv": "shortcut"}
    copied = 0
    for layer in theirs.layers:
        if not layer.weights:
            continue
        name = {"conv1_conv": "conv1", "post_bn": "postnorm", "predictions": "logits"}.get(layer.name)
        if name is None:  # conv2_block1_preact_bn and the like
            stage, unit, part = layer.name.split("_", 2)
            name = f"block{int(stage[4:]) - 1}.unit_{unit[5:]}.{parts[part]}"
        ours.get_layer(name).set_weights(layer.get_weights())
        copied += len(layer.weights)
    assert copied == len(ours.weights)
    x = image(65)
    assert keras.Model(theirs.input, theirs.get_layer("conv1_conv").output)(x).numpy().min() > 0
    expect_close(ours(x), theirs(x))


def test_inception_v3_is_that_of_keras() -> None:
    """Without the auxiliary head, which Keras' has not. Our layers in order of their names are Keras' as it made them.

    Both have batch normalisation without scale and with epsilon 0.001, and average pools that leave the padding out.
    """
    theirs = keras.applications.InceptionV3(weights=None, input_shape=(139, 139, 3), classifier_activation=None)
    ours = nets.build("inception_v3", image_size=139).trunk
    shake(theirs)

    def made(kind: type) -> list[Any]:
        """In the order of the numbers that Keras appends to its automatic names: conv2d, conv2d_1, ..."""
        found = [layer for layer in theirs.layers if isinstance(layer, kind)]
        return sorted(found, key=lambda layer: int((re.findall(r"_(\d+)$", layer.name) or ["0"])[0]))

    convolutions = sorted(layer.name for layer in ours.layers if isinstance(layer, keras.layers.Conv2D))
    for name, conv, norm in zip(
        convolutions, made(keras.layers.Conv2D), made(keras.layers.BatchNormalization), strict=True
    ):
        ours.get_layer(name).set_weights(conv.get_weights())
        ours.get_layer(f"{name}.norm").set_weights(norm.get_weights())
    ours.get_layer("Logits").set_weights(theirs.get_layer("predictions").get_weights())
    x = image(139)
    expect_close(ours(x)[0], theirs(x))


def test_alexnet_is_what_numpy_makes_of_its_definition() -> None:
    """Inputs are large, so that normalisation matters."""
    model = nets.build("alexnet", image_size=99, num_classes=20)
    shake(model)
    weights = {layer.name: [w.astype("float64") for w in layer.get_weights()] for layer in model.layers}
    x = image(99, stddev=300.0)
    expected = numpy_alexnet(x, weights, normalise=True)
    expect_close(model(x), expected)
    without = numpy_alexnet(x, weights, normalise=False)
    assert np.abs(without - expected).max() > 0.1 * np.abs(expected).max()


def numpy_alexnet(x: Array, weights: dict[str, list[Array]], normalise: bool) -> Array:
    x = relu(conv(x.astype("float64"), *weights["conv1"], strides=4))
    x = lrn(pool(x)) if normalise else pool(x)
    x = pool(relu(conv(pad(x, 2), *weights["conv2"], groups=2)))
    x = relu(conv(pad(lrn(x) if normalise else x, 1), *weights["conv3"]))
    x = relu(conv(pad(x, 1), *weights["conv4"], groups=2))
    x = pool(relu(conv(pad(x, 1), *weights["conv5"], groups=2)))
    x = x.reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        x = relu(x @ weights[name][0] + weights[name][1])
    return x @ weights["fc8"][0] + weights["fc8"][1]


def conv(x: Array, kernel: Array, bias: Array, strides: int = 1, groups: int = 1) -> Array:
    """VALID convolution; each group of filters sees its own group of channels."""
    outputs = []
    for channels, filters in zip(np.split(x, groups, axis=3), np.split(kernel, groups, axis=3), strict=True):
        windows = sliding_window_view(channels, kernel.shape[:2], axis=(1, 2))[:, ::strides, ::strides]
        outputs.append(np.einsum("bhwcij,ijco->bhwo", windows, filters, optimize=True))
    return np.concatenate(outputs, axis=3) + bias


def pool(x: Array) -> Array:
    return sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-2, -1))


def lrn(x: Array) -> Array:
    squares = sliding_window_view(np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2))), 5, axis=3).sum(axis=-1)
    return x / (1.0 + 2e-5 * squares) ** 0.75


def pad(x: Array, by: int) -> Array:
    return np.pad(x, ((0, 0), (by, by), (by, by), (0, 0)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)

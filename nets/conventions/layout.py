"""The order of a net's axes, which is that of `keras.config.image_data_format()`.

Kernels and dense weights have the same shapes in both orders (Keras' Flatten gives channels last either way), so the
same weights give the same numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import keras

from nets.errors import NetError
from nets.inputs import signature
from nets.inputs.given import Given
from tracking.record import Layout


class BadLayout(NetError):  # noqa: N818 - reads as what it says
    """The net does not follow the order of axes that Keras is set to."""


def channels_first() -> bool:
    return bool(keras.config.image_data_format() == "channels_first")


def image(size: int) -> Any:
    """Return the input for square images: `[batch, size, size, 3]`, or `[batch, 3, size, size]` channels first."""
    return keras.Input(image_shape(size), name="image")


def image_shape(size: int) -> tuple[int, int, int]:
    return (3, size, size) if channels_first() else (size, size, 3)


def channel_axis() -> int:
    """Return the axis of the channels, counting the batch, for batch normalisation and concatenation."""
    return 1 if channels_first() else -1


def build_in(layout: Layout, make: Callable[[], keras.Model], given: Given | None = None) -> keras.Model:
    """Return the model that `make` builds in this order of axes, to which Keras must be set already.

    `given` has the sizes of inputs that a model leaves open. Raises InputError where some are missing, and BadLayout
    for a net that does not follow the setting: it would compute something else.
    """
    model = make()
    signature.inputs(model, given)  # creates the variables that a subclassed model creates on its first call
    if layout == "channels_last":
        return model
    first = _shapes(model, given)
    keras.config.set_image_data_format("channels_last")
    try:
        last = _shapes(make(), given)
    finally:
        keras.config.set_image_data_format(layout)
    inputs = len(last) - len(model.weights)
    if (expected := [*map(_channels_first, last[:inputs]), *last[inputs:]]) != first:
        wanted, got = next((a, b) for a, b in itertools.zip_longest(expected, first) if a != b)
        setting = "keras.config.image_data_format()"
        raise BadLayout(f"expected {model.name} to follow {setting} and have a shape {wanted}. Received: {got}")
    if contrary := [layer.name for layer in model._flatten_layers() if getattr(layer, "data_format", layout) != layout]:
        raise BadLayout(f"expected every layer of {model.name} channels first. Received: {contrary[0]} channels last")
    return model


def _shapes(model: keras.Model, given: Given | None) -> list[tuple[int | None, ...]]:
    """Return the shapes of each input and each weight."""
    taken = [(None, *each.shape) for each in keras.tree.flatten(signature.inputs(model, given))]
    return [*taken, *(tuple(weight.shape) for weight in model.weights)]


def _channels_first(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    return (shape[0], shape[-1], *shape[1:-1]) if len(shape) > 2 else shape

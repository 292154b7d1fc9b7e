"""Finds how a net scales its input before its first trained layer, by giving it pictures of one grey each.

It looks at the values that arrive there and not at the names of layers, so that it treats `Rescaling`, `Normalization`,
a `Lambda`, plain operations and subclassed nets alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from nets.counting import layers

Range = tuple[float, float]
"""The lowest and highest value that a net expects."""
BYTES: Range = (0.0, 255.0)
UNIT: Range = (0.0, 1.0)
_CENTRED: Range = (-1.0, 1.0)

_PROBES = (0.0, 1.0, 100.0, 255.0)
_LINEAR = 0.01
"""How far from a straight line the values may be, as a share of their span."""
_ASIDE = 4
"""Weight of a range's distance from 0, relative to its width, against the logarithm of the width."""
_OF_BYTES = 0.02
"""A factor below this is meant for 0 to 255: 1/255, 1/127.5, 1/58."""


@dataclass(frozen=True)
class Scaling:
    """The values that arrive at the first trained layer: `factor * value + offset`, in the middle channel."""

    factor: float
    offset: float
    layer: str
    """Name of that layer."""
    is_linear: bool = True
    """Whether these values are on a straight line; otherwise it is unknown what the net expects."""
    stated: Range | None = None
    """The range in which a training-only layer such as `RandomBrightness` is set to keep values."""

    @property
    def is_none(self) -> bool:
        """Whether the net passes its input on unchanged."""
        return abs(self.factor - 1) < _LINEAR and abs(self.offset) < _LINEAR

    @property
    def expects(self) -> Range | None:
        """The range that the scaling brings nearest to -1 to 1, by width and place; None where that is -1 to 1 itself.

        1/255 and `value - 117` are meant for 0 to 255, `2 * value - 1` and `value - 0.5` for 0 to 1. A net without a
        scaling gets values from -1 to 1, or those that it states.
        """
        if not self.is_linear:
            return None
        if self.is_none and self.stated in (BYTES, UNIT):
            return self.stated

        def distance(expected: Range) -> float:
            low, high = sorted(self.factor * value + self.offset for value in expected)
            width = high - low
            aside = min(abs(low + high) / 2, abs(low))  # a range from 0 is as good as one around 0
            return abs(math.log(width / 2)) + _ASIDE * aside / width

        nearest = min((_CENTRED, BYTES, UNIT), key=distance)
        return None if nearest == _CENTRED else nearest

    def __str__(self) -> str:
        if self.is_none:
            return f"augmentation keeps them there, before {self.layer}"
        sign = "-" if self.offset < 0 else "+"
        return f"{self.factor:.4g} * value {sign} {abs(self.offset):.4g} before {self.layer}"


def own_scaling(net: keras.Model) -> Scaling | None:
    """Return the net's own scaling of pictures `[height, width, channels]`, in inference mode.

    None where the first trained layer's input does not depend on the brightness of a uniform picture, as when each
    picture is standardised by its own mean, and where the net has no trained layer or takes no pictures.
    """
    try:
        shape = layers.input_shape(net)
    except ValueError:
        return None
    if len(shape) != 3:
        return None
    images = np.stack([np.full(shape, value, np.float32) for value in _PROBES])
    with _first_input(net) as received:
        net(images, training=False)
    if not received:
        return None
    name, values = received[0]
    values = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(values, "float32")), np.float64)
    if values.ndim < 2 or len(values) != len(_PROBES):
        return None
    values = values.reshape(len(_PROBES), -1)
    slopes = (values[-1] - values[0]) / (_PROBES[-1] - _PROBES[0])
    seen = np.isfinite(slopes) & (slopes != 0)  # leaves out the zeros of padding
    if not seen.any():
        return None
    line = values[0] + np.outer(_PROBES, slopes)
    linear = bool((np.abs(values - line)[:, seen] <= _LINEAR * 255 * np.abs(slopes[seen])).all())
    # Factor and offset come from one element, as each channel may have its own mean.
    middle = np.flatnonzero(seen)[np.argsort(-values[0][seen] / slopes[seen], kind="stable")[seen.sum() // 2]]
    return Scaling(float(slopes[middle]), float(values[0][middle]), name, linear, _stated_range(net))


def late_scaling(net: keras.Model) -> str | None:
    """Return the name of a `Rescaling` anywhere in the net that is meant for 0 to 255; None where there is none."""
    parts = net._flatten_layers(include_self=False)
    rescaling = (part for part in parts if isinstance(part, keras.layers.Rescaling))
    return next((part.name for part in rescaling if 0 < np.max(np.abs(part.scale)) < _OF_BYTES), None)


def _stated_range(net: keras.Model) -> Range | None:
    """Return the `value_range` of the first layer that has one."""
    for layer in net._flatten_layers(include_self=False):
        if stated := getattr(layer, "value_range", None):
            return float(stated[0]), float(stated[1])
    return None


@contextmanager
def _first_input(net: keras.Model) -> Iterator[list[tuple[str, Any]]]:
    """Record, within the context, the first trained layer that is called: its name and its first argument."""
    received: list[tuple[str, Any]] = []

    def recording(layer: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not received:
                received.append((layer.name, keras.tree.flatten((args, kwargs))[0]))
            return original(*args, **kwargs)

        return call

    trained = [layer for layer in net._flatten_layers(include_self=False) if _is_trained(layer)]
    for layer in trained:
        layer.call = recording(layer, layer.call)
    try:
        yield received
    finally:
        for layer in trained:
            del layer.call


def _is_trained(layer: Any) -> bool:
    """Whether it has trainable weights, frozen or not; the weights of `Normalization` are not trainable."""
    return bool(layer._trainable_variables) and not isinstance(layer, keras.Model)

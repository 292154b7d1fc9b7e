"""How a net scales its input before its first trained layer, found by giving it pictures of one grey each.

What is looked at is the values that arrive and not the names of layers, so that `Rescaling`, `Normalization`, a
`Lambda`, plain operations and subclassed nets are all seen alike.
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
"""Lowest and highest value of what a net expects."""
BYTES: Range = (0.0, 255.0)
UNIT: Range = (0.0, 1.0)
_CENTRED: Range = (-1.0, 1.0)

_PROBES = (0.0, 1.0, 100.0, 255.0)
_LINEAR = 0.01
"""How far from a straight line the values may lie, as a share of their span."""


_ASIDE = 4
"""How much it counts that a range is aside, by its width, compared with the logarithm of that."""
_OF_BYTES = 0.02
"""Below this a factor is made for 0 to 255: 1/255, 1/127.5, 1/58."""


@dataclass(frozen=True)
class Scaling:
    """What arrives at the first trained layer: `factor * value + offset`, of the middle channel."""

    factor: float
    offset: float
    layer: str
    """Name of that layer."""
    is_linear: bool = True
    """Whether the values that arrive are on a straight line; otherwise it cannot be told what the net expects."""
    stated: Range | None = None
    """The range that a layer for training alone, such as `RandomBrightness`, is told to keep values in."""

    @property
    def is_none(self) -> bool:
        """Whether the net hands its input on as it is."""
        return abs(self.factor - 1) < _LINEAR and abs(self.offset) < _LINEAR

    @property
    def expects(self) -> Range | None:
        """The range that the scaling brings nearest to -1 to 1, by width and place; None where that is -1 to 1 itself.

        1/255 and `value - 117` are made for 0 to 255, `2 * value - 1` and `value - 0.5` for 0 to 1; a net without a
        scaling is given values from -1 to 1, or those that it states.
        """
        if not self.is_linear:
            return None
        if self.is_none and self.stated in (BYTES, UNIT):
            return self.stated

        def distance(expected: Range) -> float:
            low, high = sorted(self.factor * value + self.offset for value in expected)
            width = high - low
            aside = min(abs(low + high) / 2, abs(low))  # what begins at 0 is as good as what is around it
            return abs(math.log(width / 2)) + _ASIDE * aside / width

        nearest = min((_CENTRED, BYTES, UNIT), key=distance)
        return None if nearest == _CENTRED else nearest

    def __str__(self) -> str:
        if self.is_none:
            return f"augmentation keeps them there, before {self.layer}"
        sign = "-" if self.offset < 0 else "+"
        return f"{self.factor:.4g} * value {sign} {abs(self.offset):.4g} before {self.layer}"


def own_scaling(net: keras.Model) -> Scaling | None:
    """The net's own scaling of pictures `[height, width, channels]`, in inference mode.

    None where the first trained layer's input does not depend on how bright a picture of one grey is, since each
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
    seen = np.isfinite(slopes) & (slopes != 0)  # not the zeros that a picture is padded with
    if not seen.any():
        return None
    line = values[0] + np.outer(_PROBES, slopes)
    linear = bool((np.abs(values - line)[:, seen] <= _LINEAR * 255 * np.abs(slopes[seen])).all())
    # One whole element, as factor and offset belong together: channels may have a mean each.
    middle = np.flatnonzero(seen)[np.argsort(-values[0][seen] / slopes[seen], kind="stable")[seen.sum() // 2]]
    return Scaling(float(slopes[middle]), float(values[0][middle]), name, linear, _stated_range(net))


def late_scaling(net: keras.Model) -> str | None:
    """The name of a `Rescaling` that is made for 0 to 255, wherever in the net it is; None: there is none."""
    parts = net._flatten_layers(include_self=False)
    rescaling = (part for part in parts if isinstance(part, keras.layers.Rescaling))
    return next((part.name for part in rescaling if 0 < np.max(np.abs(part.scale)) < _OF_BYTES), None)


def _stated_range(net: keras.Model) -> Range | None:
    """What the first layer that is told the range of its input is told."""
    for layer in net._flatten_layers(include_self=False):
        if stated := getattr(layer, "value_range", None):
            return float(stated[0]), float(stated[1])
    return None


@contextmanager
def _first_input(net: keras.Model) -> Iterator[list[tuple[str, Any]]]:
    """Within the context, the name of each trained layer that is called, and its first argument."""
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
    """Whether it has weights to be trained, frozen or not: `Normalization` has weights, but none of those."""
    return bool(layer._trainable_variables) and not isinstance(layer, keras.Model)

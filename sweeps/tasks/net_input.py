"""How a net scales its input before its first trained layer, found by giving it pictures of one grey each.

What is looked at is the values that arrive and not the names of layers, so that `Rescaling`, `Normalization`, a
`Lambda`, plain operations and subclassed nets are all seen alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from nets import layers

Range = tuple[float, float]
"""Lowest and highest value of what a net expects."""
BYTES: Range = (0.0, 255.0)
UNIT: Range = (0.0, 1.0)

_PROBES = (0.0, 1.0, 100.0, 255.0)
_LINEAR = 0.01
"""How far from a straight line the values may lie, as a share of their span."""
_LARGEST = 16.0
"""A trained layer is meant to see a picture that spans less than this, unless only a mean is subtracted."""


@dataclass(frozen=True)
class Scaling:
    """What arrives at the first trained layer: `factor * value + offset`, of the middle channel."""

    factor: float
    offset: float
    layer: str
    """Name of that layer."""

    @property
    def expects(self) -> Range | None:
        """The range of input that such a scaling is made for; None where it makes none, or one that fits any input."""
        factor, middle = abs(self.factor), -self.offset / self.factor
        if 255 * factor <= _LARGEST or 16 < middle < 240:  # 1/255, 1/127.5 - 1; or a mean subtracted from 0 to 255
            return BYTES
        if 0.2 < middle < 0.8 or (factor >= _LARGEST and abs(middle) < 0.2):  # 2x - 1, (x - 0.45) / 0.22; or 255x
            return UNIT
        return None

    def __str__(self) -> str:
        sign = "-" if self.offset < 0 else "+"
        return f"{self.factor:.4g} * value {sign} {abs(self.offset):.4g} before {self.layer}"


def own_scaling(net: keras.Model) -> Scaling | None:
    """The net's own scaling of pictures `[height, width, channels]`, in inference mode.

    None where the first trained layer's input does not depend on the picture in a straight line, e.g. where each
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
    if not (np.abs(values - line)[:, seen] <= _LINEAR * 255 * np.abs(slopes[seen])).all():
        return None
    # One whole element, as factor and offset belong together: channels may have a mean each.
    middle = np.flatnonzero(seen)[np.argsort(-values[0][seen] / slopes[seen], kind="stable")[seen.sum() // 2]]
    return Scaling(float(slopes[middle]), float(values[0][middle]), name)


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

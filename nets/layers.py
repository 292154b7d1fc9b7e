"""A net's layer table: shapes, parameters, operations and bytes, found by tracing the net once at the given batch.

Operations are counted by the rule that `nets.flops` states. Activation bytes are those of the row's output at its own
dtype, so half as many under a mixed precision policy. A layer with weights for which there is no counting rule has
"FLOPs not counted" in its kind, and `Totals.uncounted` names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from nets.flops import PRODUCTS, Call, count, rule
from tracking.record import Layer

UNCOUNTED = "FLOPs not counted"


@dataclass(frozen=True)
class Totals:
    """Sums over a net's rows."""

    trainable_params: int
    other_params: int
    flops: int
    """Forward operations for the whole batch."""
    activation_bytes: int
    uncounted: tuple[str, ...]
    """Layers with weights whose operations are not in `flops`."""


def rows(model: keras.Model, batch: int, training: bool = False) -> tuple[Layer, ...]:
    """One row a layer call, in the order of execution, nested models and layers taken apart.

    `training` chooses which layers run: Inception's auxiliary head is in the table only then. A layer that is called
    again has its parameters counted at its first call. Raises ValueError where the input shape is not known.
    """
    if batch < 1:
        raise ValueError(f"expected a batch of at least 1. Received: batch={batch}")
    images = tf.TensorSpec([batch, *input_shape(model)], tf.float32)
    with _recorded_calls(model) as calls:
        tf.function(lambda x: model(x, training=training), autograph=False).get_concrete_function(images)
    seen: set[int] = set()
    return tuple(_row(call, batch, seen) for call in calls)


def totals(table: Sequence[Layer]) -> Totals:
    """Sums over the rows, and the layers whose operations are not in them."""
    return Totals(
        trainable_params=sum(row.trainable_params for row in table),
        other_params=sum(row.other_params for row in table),
        flops=sum(row.flops for row in table),
        activation_bytes=sum(row.activation_bytes for row in table),
        uncounted=tuple(row.name for row in table if UNCOUNTED in row.kind),
    )


def training_flops(table: Sequence[Layer]) -> int:
    """Operations of one training step, forward and backward, from the rows of `rows(..., training=True)`.

    The backward pass of a layer that multiplies (convolution, dense, attention) costs twice its forward: the gradients
    of its weights and of its input. The first such layer's costs its forward once, as nobody needs the image's
    gradient, and so does every other row's. The loss and the update of the weights are not counted.
    """
    products = [row.flops for row in table if _base(row.kind) in PRODUCTS]
    return 2 * sum(row.flops for row in table) + sum(products[1:])


def weighted(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers that hold weights themselves, by name, wherever in the model they are."""
    return {part.name: part for part in _parts(model, set()) if _own_weights(part)}


def input_shape(model: keras.Model) -> tuple[int, ...]:
    """The shape of one input image, batch left out. Raises ValueError where the model does not say."""
    try:
        shape = model.input_shape
    except AttributeError:  # a subclassed model knows only what it was built with
        shape = (model.get_build_config() or {}).get("input_shape")
    if not isinstance(shape, tuple | list) or len(shape) < 2 or not all(isinstance(size, int) for size in shape[1:]):
        raise ValueError(f"expected {model.name} to have one input of known size. Received: input_shape={shape}")
    return tuple(shape[1:])


def _row(call: Call, batch: int, seen: set[int]) -> Layer:
    own = _own_weights(call.part)
    new = [weight for weight in own if id(weight) not in seen]
    seen.update(id(weight) for weight in new)
    trainable = sum(math.prod(weight.shape) for weight in new if weight.trainable)
    flops = count(call, weighted=bool(own))
    kind = type(call.part).__name__
    if flops is None:
        kind = f"{kind} ({UNCOUNTED})"
    elif (found := rule(call.part)) and found[0] != kind:
        kind = f"{kind} ({found[0]})"
    return Layer(
        name=call.part.name,
        kind=kind,
        output_shape=call.outputs[0] if call.outputs else (batch,),
        trainable_params=trainable,
        other_params=sum(math.prod(weight.shape) for weight in new) - trainable,
        flops=flops or 0,
        activation_bytes=call.output_bytes,
    )


def _base(kind: str) -> str:
    """`Conv2D` of `Conv2D` and of `MyConvolution (Conv2D)`."""
    return kind.removesuffix(")").split(" (")[-1]


@contextmanager
def _recorded_calls(model: keras.Model) -> Iterator[list[Call]]:
    """The calls of the model's layers within the context, in the order in which they end.

    Each layer has a recording `call` of its own for the time being: the only way that sees subclassed models, layers
    within layers and layers called twice alike.
    """
    calls: list[Call] = []

    def recording(part: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            outputs = _tensors(result)
            size = sum(math.prod(tensor.shape) * tensor.dtype.size for tensor in outputs)
            calls.append(Call(part, _shapes(_tensors((args, kwargs))), _shapes(outputs), size))
            return result

        return call

    parts = list(_parts(model, set()))
    for part in parts:
        part.call = recording(part, part.call)
    try:
        yield calls
    finally:
        for part in parts:
            del part.call


def _parts(part: Any, seen: set[int]) -> Iterator[Any]:
    """Whatever makes a row, once each: layers that have weights or a counting rule or no layers inside; operations."""
    if id(part) in seen or isinstance(part, keras.layers.InputLayer):
        return
    seen.add(id(part))
    inner = _inner(part)
    if not (inner or isinstance(part, keras.Model)) or rule(part) or _own_weights(part):
        yield part
    for child in inner:
        yield from _parts(child, seen)


def _inner(part: Any) -> list[Any]:
    if isinstance(part, keras.Model) and hasattr(part, "operations"):
        return list(part.operations)  # a functional model's layers and its plain operations
    return list(part._flatten_layers(include_self=False, recursive=False)) if hasattr(part, "_flatten_layers") else []


def _own_weights(part: Any) -> list[Any]:
    inner = {id(weight) for child in _inner(part) for weight in getattr(child, "weights", ())}
    return [weight for weight in getattr(part, "weights", ()) if id(weight) not in inner]


def _tensors(values: Any) -> list[tf.Tensor]:
    return [value for value in keras.tree.flatten(values) if isinstance(value, tf.Tensor)]


def _shapes(tensors: Sequence[tf.Tensor]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in tensors)

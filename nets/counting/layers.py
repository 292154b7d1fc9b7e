"""A net's layer table: shapes, parameters, operations and bytes, from one trace of the net at a given batch.

Operations are counted by the rule in `nets.counting.flops`. Activation bytes are those of the row's output in its own
dtype, so half as many under a mixed precision policy. A layer with weights but no counting rule has "FLOPs not counted"
in its kind and is listed in `Totals.uncounted`. `nets.counting.work` counts a whole pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.ops.control_flow_v2_func_graphs import WhileBodyFuncGraph

from nets.counting.calls import Call, Term
from nets.counting.flops import rule, terms, whole
from nets.errors import InputError
from nets.inputs import signature
from nets.inputs.sizes import Input
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
    """Layers whose operations are not in `flops`."""


@dataclass(frozen=True)
class Trace:
    """A model traced once at one batch, in inference or in training mode."""

    model: keras.Model
    batch: int
    inputs: Any
    """The model's inputs, as `Input`s in its structure."""
    calls: tuple[Call, ...]
    """The calls of its layers and operations in the order in which they end, including those inside nested ones."""
    function: Any
    """The concrete function: inputs in the model's structure -> outputs."""

    @cached_property
    def rows(self) -> tuple[Layer, ...]:
        """One row per call. A layer's parameters are counted at its first call."""
        seen: set[int] = set()
        return tuple(_row(call, self.batch, seen) for call in self.calls)


def trace(model: keras.Model, batch: int, training: bool = False, inputs: Any = None) -> Trace:
    """Trace the model. `training` decides which layers run: Inception's auxiliary head only runs in training.

    `inputs` are those of `signature.inputs`, which are found if None. Raises InputError where the shape of one is
    unknown.
    """
    if batch < 1:
        raise ValueError(f"expected a batch of at least 1. Received: batch={batch}")
    inputs = signature.inputs(model) if inputs is None else inputs
    with _recorded_calls(model, batch) as calls:
        function = tf.function(lambda given: model(given, training=training), autograph=False)
        concrete = function.get_concrete_function(signature.specs(inputs, batch))
    return Trace(model, batch, inputs, tuple(calls), concrete)


def rows(model: keras.Model, batch: int, training: bool = False) -> tuple[Layer, ...]:
    """Return the rows of `trace`. Raises InputError where the shape of an input is unknown."""
    return trace(model, batch, training).rows


def totals(table: Sequence[Layer]) -> Totals:
    """Sum over the rows, and list the layers whose operations are not counted."""
    return Totals(
        trainable_params=sum(row.trainable_params for row in table),
        other_params=sum(row.other_params for row in table),
        flops=sum(row.flops for row in table),
        activation_bytes=sum(row.activation_bytes for row in table),
        uncounted=tuple(row.name for row in table if UNCOUNTED in row.kind),
    )


def weighted(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the layers with weights of their own, by name, however deeply nested."""
    return {part.name: part for part in _parts(model, set()) if own_weights(part)}


def input_shape(model: keras.Model) -> tuple[int, ...]:
    """Return the shape of one input image, without the batch. Raises InputError where there is not one known input."""
    try:
        taken = signature.inputs(model)
    except InputError as error:
        received = str(error).partition("Received: ")[2].partition(". Set ")[0]
        raise InputError(f"expected {model.name} to have one input of known size. Received: {received}") from error
    if not isinstance(taken, Input) or not taken.shape:
        shown = ", ".join(map(str, keras.tree.flatten(taken)))
        raise InputError(f"expected {model.name} to have one input of known size. Received: {shown}")
    return tuple(size for size in taken.shape if size is not None)


def _row(call: Call, batch: int, seen: set[int]) -> Layer:
    new = [weight for weight in own_weights(call.part) if id(weight) not in seen]
    seen.update(id(weight) for weight in new)
    trainable = sum(math.prod(weight.shape) for weight in new if weight.trainable)
    counted = counted_terms(call)
    kind = type(call.part).__name__
    if counted is None:
        kind = f"{kind} ({UNCOUNTED})"
    elif (base_and_rule := rule(call.part)) and base_and_rule[0] != kind:
        kind = f"{kind} ({base_and_rule[0]})"
    return Layer(
        name=call.part.name,
        kind=kind,
        output_shape=call.outputs[0] if call.outputs else (batch,),
        trainable_params=trainable,
        other_params=sum(math.prod(weight.shape) for weight in new) - trainable,
        flops=sum(term.flops for term in counted or ()),
        activation_bytes=call.output_bytes,
    )


def counted_terms(call: Call) -> tuple[Term, ...] | None:
    """Return the call's operations; None where they are not counted, as in a loop, which is traced only once."""
    if not call.sized or any(_in_loop(tensor.graph) for tensor in call.tensors[1]):
        return None
    return terms(call, weighted=bool(own_weights(call.part)))


def _in_loop(graph: Any) -> bool:
    while graph is not None:
        if isinstance(graph, WhileBodyFuncGraph):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


@contextmanager
def _recorded_calls(model: keras.Model, batch: int) -> Iterator[list[Call]]:
    """Record the calls of the model's layers within the context, in the order in which they end.

    Each layer temporarily gets a recording `call`: only this treats subclassed models, nested layers and layers that
    are called twice alike.
    """
    calls: list[Call] = []

    def recording(part: Any, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            given, outputs = _arrays((args, kwargs)), _tensors(result)
            tensors = (_symbols(given), _symbols(outputs))
            into, out = _shapes(given, batch), _shapes(outputs, batch)
            if into is None or out is None:
                calls.append(Call(part, (), (), 0, tensors, sized=False))
                return result
            size = sum(math.prod(shape) * tensor.dtype.size for shape, tensor in zip(out, outputs, strict=True))
            calls.append(Call(part, into, out, size, tensors))
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
    """Yield each part that makes a row once: layers with weights, a counting rule or no inner layers; operations."""
    if id(part) in seen or isinstance(part, keras.layers.InputLayer):
        return
    seen.add(id(part))
    inner = _inner(part)
    if not (inner or isinstance(part, keras.Model)) or rule(part) or own_weights(part):
        yield part
    for child in inner:
        yield from _parts(child, seen)


def _inner(part: Any) -> list[Any]:
    if isinstance(part, keras.Model) and hasattr(part, "operations"):
        return list(part.operations)  # a functional model's layers and its plain operations
    if whole(part) or not hasattr(part, "_flatten_layers"):
        return []
    return list(part._flatten_layers(include_self=False, recursive=False))


def own_weights(part: Any) -> list[Any]:
    """Return a layer's own weights, including those of inner layers that share its row."""
    inner = {id(weight) for child in _inner(part) for weight in getattr(child, "weights", ())}
    return [weight for weight in getattr(part, "weights", ()) if id(weight) not in inner]


def _tensors(values: Any) -> list[tf.Tensor]:
    return [value for value in keras.tree.flatten(values) if isinstance(value, tf.Tensor)]


def _symbols(values: Any) -> tuple[tf.Tensor, ...]:
    """Return the tensors that belong to a graph, without constants from outside."""
    return tuple(tensor for tensor in _tensors(values) if hasattr(tensor, "graph"))


def _arrays(values: Any) -> list[Any]:
    """Return tensors, and the constants and variables among a plain operation's arguments."""
    return [value for value in keras.tree.flatten(values) if hasattr(value, "shape") and hasattr(value, "dtype")]


def _shapes(arrays: Sequence[Any], batch: int) -> tuple[tuple[int, ...], ...] | None:
    """Return the shapes, with the batch for an open first axis; None where another size is only known in a run."""
    shapes = []
    for array in arrays:
        if getattr(array.shape, "rank", 0) is None:
            return None
        first, *others = tuple(array.shape) or (1,)
        shapes.append((batch if first is None else first, *others) if len(array.shape) else ())
    return None if any(size is None for shape in shapes for size in shape) else tuple(shapes)

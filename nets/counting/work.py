"""What a pass of a net computes by the counting rules: `forward`, and `training`, which counts what is differentiated.

A product of the forward pass is made again backward for each of its two tensors that needs a gradient: a weight if it
is trainable, an input if something before it is. Where nothing that is trainable lies before a layer or in it, or
where no gradient reaches it from the outputs, its backward pass is nothing. Found in the traced graph, so branches,
frozen parts and stopped gradients count as they are. The loss and the update of weights are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.ops import get_gradient_function

from nets.counting.flops import Call, Term
from nets.counting.layers import Trace, counted_terms

_CALLS = {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "StatelessWhile", "Case"}
"""Operations that are functions: whether gradients flow through them is a matter of what is inside."""


@dataclass(frozen=True)
class Work:
    """Operations of one pass, for the whole batch."""

    counted: int
    """Of the layers that have a counting rule."""
    products: int
    """Those that multiply two tensors and add up."""
    uncounted: tuple[str, ...]
    """Layers and operations without one, as `name (kind)`."""
    recurrent: bool
    """Whether any layer has a loop over steps, all of which are counted."""

    @property
    def flops(self) -> int | None:
        """All of them; None where some are not counted."""
        return None if self.uncounted else self.counted


def forward(trace: Trace) -> Work:
    """The work of one forward pass, from a trace in inference mode."""
    return _sum(trace, [counted_terms(call) for call in trace.calls])


def training(trace: Trace) -> Work:
    """The work of one forward and backward pass, from a trace in training mode."""
    graph = trace.function.graph
    flow = _GradientFlow(trace)
    inside = [call.part for call in trace.calls if any(tensor.graph is not graph for tensor in call.tensors[1])]
    return _sum(trace, [flow.differentiated(call) for call in trace.calls], inside)


def _sum(trace: Trace, counted: list[tuple[Term, ...] | None], unknown: Sequence[Any] = ()) -> Work:
    missing = [call.part for call, found in zip(trace.calls, counted, strict=True) if found is None]
    missing += unknown
    every = [term for found in counted for term in found or ()]
    return Work(
        counted=sum(term.flops for term in every),
        products=sum(term.products for term in every),
        uncounted=tuple(dict.fromkeys(f"{part.name} ({type(part).__name__})" for part in missing)),
        recurrent=any(isinstance(call.part, keras.layers.RNN) for call in trace.calls),
    )


class _GradientFlow:
    """Which tensors of a traced graph depend on a trainable variable, and which the outputs depend on, differentiably.

    What is inside a `tf.function` of the user's own is not followed.
    """

    def __init__(self, trace: Trace) -> None:
        graph = trace.function.graph
        self._needing: set[str] = set()
        """Names of tensors that need a gradient, if it reaches them."""
        self._reached: set[str] = set()
        for call in trace.calls:  # and not the variables' tensors: a net of shapes only has none
            if isinstance(call.part, keras.layers.Layer) and call.part.trainable_weights:
                self._needing |= {tensor.name for tensor in call.tensors[1]}
        operations = graph.get_operations()
        for operation in operations:
            if any(tensor.name in self._needing for tensor in operation.inputs) and _differentiable(operation):
                self._needing |= {tensor.name for tensor in operation.outputs if _carries(tensor)}
        self._reached |= {tensor.name for tensor in keras.tree.flatten(trace.function.structured_outputs)}
        self._reached |= {tensor.name for tensor in graph.outputs}
        for operation in reversed(operations):
            if any(tensor.name in self._reached for tensor in operation.outputs) and _differentiable(operation):
                self._reached |= {tensor.name for tensor in operation.inputs if _carries(tensor)}

    def differentiated(self, call: Call) -> tuple[Term, ...] | None:
        """The call's operations forward and backward; None where they are not counted."""
        if (counted := counted_terms(call)) is None:
            return None
        given, made = call.tensors
        if not any(tensor.name in self._reached for tensor in made):
            return counted
        needing = sum(tensor.name in self._needing for tensor in given if _carries(tensor))
        if not needing and not any(tensor.name in self._needing for tensor in made):
            return counted
        return tuple(_backward(term, call, needing) for term in counted)


def _backward(term: Term, call: Call, needing: int) -> Term:
    """The term together with its backward pass: `needing` of the call's inputs need a gradient."""
    if not term.operands:
        times = 2
    elif term.operands == ("input", "input"):
        times = 1 + min(2, needing)
    else:
        trained = call.part.trainable_weights if isinstance(call.part, keras.layers.Layer) else []
        kernels = any(len(weight.shape) > 1 for weight in trained)
        times = 1 + term.factors(kernels, bool(trained), needing > 0)
    return Term(times * term.flops, times * term.products)


def _carries(tensor: tf.Tensor) -> bool:
    """Whether a gradient can go along it."""
    return tensor.dtype.is_floating or tensor.dtype.is_complex or tensor.dtype in (tf.resource, tf.variant)


def _differentiable(operation: Any) -> bool:
    if operation.type in _CALLS or operation.type == "ReadVariableOp":
        return True
    try:
        return get_gradient_function(operation) is not None
    except LookupError:
        return False

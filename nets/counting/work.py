"""Counts the operations of a net's passes: `forward`, and `training`, which includes the differentiation.

For each product of the forward pass, the backward pass has another one per tensor that needs a gradient: a weight if it
is trainable, an input if something before it is. A layer's backward pass is empty where nothing trainable is before or
in it, or where no gradient reaches it from the outputs. This follows the traced graph, and so accounts for branches,
frozen parts and stopped gradients. The loss and the optimizer's update of the weights are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.ops import get_gradient_function

from nets.counting.calls import Call, Term
from nets.counting.layers import Trace, counted_terms

_CALLS = {"PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "StatelessWhile", "Case"}
"""Operations that call functions, whose content decides whether gradients flow through them."""


@dataclass(frozen=True)
class Work:
    """Operations of one pass, for the whole batch."""

    counted: int
    """Those of layers with a counting rule."""
    products: int
    """Those that multiply two tensors and sum."""
    uncounted: tuple[str, ...]
    """Layers and operations without a counting rule, as `name (kind)`."""
    recurrent: bool
    """Whether any layer has a loop over steps, all of which are counted."""

    @property
    def flops(self) -> int | None:
        """All operations; None where some are not counted."""
        return None if self.uncounted else self.counted


def forward(trace: Trace) -> Work:
    """Return the work of one forward pass, from a trace in inference mode."""
    return _sum(trace, [counted_terms(call) for call in trace.calls])


def training(trace: Trace) -> Work:
    """Return the work of one forward and backward pass, from a trace in training mode."""
    graph = trace.function.graph
    flow = _GradientFlow(trace)
    inside = [call.part for call in trace.calls if any(tensor.graph is not graph for tensor in call.tensors[1])]
    return _sum(trace, [flow.differentiated(call) for call in trace.calls], inside)


def _sum(trace: Trace, counted: list[tuple[Term, ...] | None], unknown: Sequence[Any] = ()) -> Work:
    missing = [call.part for call, terms in zip(trace.calls, counted, strict=True) if terms is None]
    missing += unknown
    every = [term for terms in counted for term in terms or ()]
    return Work(
        counted=sum(term.flops for term in every),
        products=sum(term.products for term in every),
        uncounted=tuple(dict.fromkeys(f"{part.name} ({type(part).__name__})" for part in missing)),
        recurrent=any(isinstance(call.part, keras.layers.RNN) for call in trace.calls),
    )


class _GradientFlow:
    """Which tensors of a traced graph depend on a trainable variable, and on which the outputs depend, differentiably.

    The user's own `tf.function`s are not looked into.
    """

    def __init__(self, trace: Trace) -> None:
        graph = trace.function.graph
        self._needing: set[str] = set()
        """Names of tensors that need a gradient, if it reaches them."""
        self._reached: set[str] = set()
        for call in trace.calls:  # not by the variables' tensors, which a net of shapes only lacks
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
        """Return the call's operations forward and backward; None where they are not counted."""
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
    """Return the term with its backward pass; `needing` of the call's inputs need a gradient."""
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
    """Whether the tensor can carry a gradient."""
    return tensor.dtype.is_floating or tensor.dtype.is_complex or tensor.dtype in (tf.resource, tf.variant)


def _differentiable(operation: Any) -> bool:
    if operation.type in _CALLS or operation.type == "ReadVariableOp":
        return True
    try:
        return get_gradient_function(operation) is not None
    except LookupError:
        return False

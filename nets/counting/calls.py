"""One call of a layer or plain operation, and the terms of its operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf

Shape = tuple[int, ...]
Operand = Literal["input", "weight", "inner"]
"""A factor of a product: the call's own input, a weight, or something that the layer computes from both."""


@dataclass(frozen=True)
class Call:
    """One call of a layer or plain operation: the shapes of its inputs and outputs, and the bytes of the outputs."""

    part: Any
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    output_bytes: int
    tensors: tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]] = ((), ())
    """Inputs and outputs, as symbols of the traced graph."""
    sized: bool = True
    """Whether all sizes are known before the net runs; else there are no shapes and no bytes."""

    @property
    def size(self) -> int:
        """Elements of the first output."""
        return math.prod(self.outputs[0]) if self.outputs else 0


@dataclass(frozen=True)
class Term:
    """A part of a call's operations."""

    flops: int
    products: int = 0
    """Those that multiply two tensors and sum."""
    operands: tuple[Operand, ...] = ()
    """The operands that may need a gradient; without any, the backward pass costs as much as the forward pass."""

    def factors(self, kernels: bool, weights: bool, inputs: bool) -> int:
        """Return how many operands need a gradient, given whether the layer's kernels, weights and inputs do."""
        needed = {"weight": kernels, "input": inputs, "inner": weights or inputs}
        return sum(needed[operand] for operand in self.operands)


Rule = Callable[[Call], tuple[Term, ...] | None]
"""Counts a call; None where it has no rule for it."""


def product(products: int, *operands: Operand, others: int = 0) -> tuple[Term, ...]:
    """Return the term of a product of two tensors, with other operations on its result."""
    return (Term(products + others, products, operands),)

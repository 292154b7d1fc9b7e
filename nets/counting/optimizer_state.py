"""Counts the numbers that an optimizer keeps beside a net's weights, without making any of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras


def size(optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> int:
    """Return how many numbers a new optimizer keeps for these variables, which may be mere shapes.

    The optimizer cannot be used afterwards.
    """
    sizes: list[int] = []

    def like(reference_variable: Any, *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        sizes.append(math.prod(reference_variable.shape))

    def of(shape: Sequence[int], *args: Any, **kwargs: Any) -> None:
        del args, kwargs
        sizes.append(math.prod(shape))

    optimizer.add_variable_from_reference, optimizer.add_variable = like, of
    optimizer._var_key = id  # Keras' own needs the variables' values
    optimizer.build(variables)
    return sum(sizes)

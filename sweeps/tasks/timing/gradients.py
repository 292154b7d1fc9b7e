"""Whether there is anything to differentiate in a net, and which of its variables no gradient reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

_REMEDY = "set passes=[forward], or train some of its layers (trainable=True)"


class NothingToDifferentiateError(RuntimeError):
    """A differentiating pass of a net that has no trainable variable, or none that a gradient reaches."""


def expect_variables(model: keras.Model) -> None:
    """Raise NothingToDifferentiateError where the model has no trainable variable."""
    if not model.trainable_variables:
        message = f"expected {model.name} to have something to differentiate. Received: no trainable variable"
        raise NothingToDifferentiateError(f"{message}; {_REMEDY}")


def missing(model: keras.Model, variables: Sequence[Any], gradients: Sequence[Any]) -> tuple[str, ...]:
    """Return the paths of the variables without a gradient. Raises NothingToDifferentiateError where none has one."""
    paths = tuple(each.path for each, gradient in zip(variables, gradients, strict=True) if gradient is None)
    if len(paths) == len(variables):
        message = f"expected {model.name} to have something to differentiate. Received: no gradient for any of its"
        raise NothingToDifferentiateError(f"{message} {len(variables)} trainable variables; {_REMEDY}")
    return paths

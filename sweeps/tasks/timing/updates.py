"""Watches a model's optimizers: the gradients that they get, their updates, and what becomes of the weights.

Each optimizer's `apply` is replaced by one that takes note and then does the same.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from sweeps.tasks.timing import gradients


class Deferred(NamedTuple):
    """An update that is still to be made."""

    apply: Callable[..., None]
    gradients: Sequence[Any]
    variables: Any


class Updates:
    """What the optimizers of a model do, from the first step on."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self.optimizers = self.found(model)
        """The one that the model was compiled with, and those in attributes of its own."""
        self.per_step: Counter[Any] = Counter()
        """How many updates each optimizer makes in one step."""
        self.without_gradient: tuple[str, ...] = ()
        """Paths of the variables that were to be updated in the last step, and for which there was no gradient."""
        self._deferred: list[Deferred] | None = None
        self._before: list[int] = []
        for optimizer in self.optimizers:
            optimizer.apply = functools.partial(self._apply, optimizer, optimizer.apply)

    @staticmethod
    def found(model: keras.Model) -> list[Any]:
        """Return the optimizers of a model, each once."""
        values = [getattr(model, "optimizer", None), *vars(model).values()]
        kept = {id(each): each for each in values if isinstance(each, keras.optimizers.Optimizer)}
        return list(kept.values())

    def begin(self) -> None:
        """Begin the trace or the eager call of one step."""
        self.per_step.clear()
        self.without_gradient = ()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[list[Deferred]]:
        """Collect the updates within the context instead of making them."""
        self._deferred = []
        try:
            yield self._deferred
        finally:
            self._deferred = None

    def start(self) -> None:
        """Note how many updates each optimizer has made so far."""
        self._before = self._iterations()

    def stop(self, steps: int) -> dict[str, float]:
        """Return evidence about the `steps` since `start`.

        `skipped_updates`: the share of them in which loss scaling skipped the update, after an overflow, where there is
        loss scaling. `nonfinite_weights`: how many weights hold nan or infinity. `nonfinite_loss`: how many metrics do.
        """
        evidence = {
            "nonfinite_weights": _nonfinite(self._model.weights),
            "nonfinite_loss": _nonfinite(self._model.metrics_variables),
        }
        made = dict(zip(self.optimizers, self._iterations(), strict=True))
        for before, each in zip(self._before, self.optimizers, strict=True):
            if hasattr(each, "dynamic_scale") and (due := steps * self.updates_of(each)):
                evidence["skipped_updates"] = 1 - (made[each] - before) / due
        return evidence

    def updates_of(self, optimizer: Any) -> int:
        """Return how many updates the optimizer makes in one step on each of its devices."""
        replicas = getattr(self._model.distribute_strategy, "num_replicas_in_sync", 1)
        return self.per_step[optimizer] // replicas

    def _iterations(self) -> list[int]:
        return [int(each.iterations.numpy()) if each.built else 0 for each in self.optimizers]

    def _apply(
        self, optimizer: Any, apply: Callable[..., None], grads: Sequence[Any], trainable_variables: Any = None
    ) -> None:
        self.per_step[optimizer] += 1
        variables = optimizer._trainable_variables if trainable_variables is None else list(trainable_variables)
        if variables:
            known = gradients.missing(self._model, variables, grads)
            self.without_gradient = tuple(dict.fromkeys((*self.without_gradient, *known)))
        if self._deferred is None:
            apply(grads, trainable_variables)
        else:
            self._deferred.append(Deferred(apply, grads, trainable_variables))


def _nonfinite(variables: Sequence[Any]) -> float:
    """Return how many of the variables hold nan or infinity."""
    values = [part for variable in variables for part in getattr(variable.value, "values", (variable.value,))]
    floats = [value for value in values if value.dtype.is_floating]
    return float(sum(not bool(tf.reduce_all(tf.math.is_finite(value))) for value in floats))

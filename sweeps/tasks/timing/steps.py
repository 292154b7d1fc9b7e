"""The step of a pass that is timed, and those of a net on a fixed batch that return its outputs or its gradients."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from sweeps.tasks.timing import gradients, replicas
from tracking.record import Compile, Pass


class Step:
    """A function of one fixed batch, called without arguments.

    The same tensors go in every time, but as arguments: TensorFlow turns small captured ones into constants, and folds
    away what is computed from them.
    """

    def __init__(
        self,
        function: Any,
        batch: Any,
        *,
        compiled: bool,
        direct: bool,
        inputs: int | None = None,
        trained: frozenset[int] = frozenset(),
        optimizers: tuple[str, ...] = (),
    ) -> None:
        """`direct` calls the traced function itself, without TensorFlow's search for one that fits the arguments.

        `inputs`: how many of the batch's tensors are the net's inputs, None for all. `trained`: the ids of the handles
        of the variables that the step is there to change; empty for one that is there for its result. `optimizers`:
        the names that stand for their updates in the names of operations.
        """
        self._function, self._batch, self.compiled = function, batch, compiled
        self._inputs, self._trained, self._optimizers = inputs, trained, optimizers
        self._direct = compiled and direct
        self._traced: Any = None
        self.without_gradient: tuple[str, ...] = ()
        """Paths of the trainable variables that the last trace or eager call found no gradient for."""

    def __call__(self) -> Any:
        # The search takes 80 us of Python, a third of a step of the smallest nets, and is no work of theirs.
        function = self.get_concrete_function() if self._direct else self._function
        return function(self._batch)

    def get_concrete_function(self) -> Any:
        """Return the compiled function, traced on first use; for an eager step, one that only shows its operations."""
        if self._traced is None:
            function = self._function if self.compiled else tf.function(self._function, autograph=False)
            self._traced = function.get_concrete_function(self._batch)
        return self._traced

    def xla_program(self) -> str:
        """Return XLA's program of the step as text; this compiles the step once more."""
        return str(self._function.experimental_get_compiler_ir(self._batch)(stage="optimized_hlo"))

    def updates(self, operation: str) -> bool:
        """Whether the operation of this name is part of an optimizer's update, which is in float32 at any precision."""
        scopes = (part.rstrip("0123456789").rstrip("_") for part in operation.split("/")[:-1])
        return any(scope in self._optimizers for scope in scopes)

    @property
    def inputs(self) -> int:
        """The number of the concrete function's parameters that are the net's inputs."""
        return len(tf.nest.flatten(self._batch, expand_composites=True)) if self._inputs is None else self._inputs

    def trained(self) -> frozenset[int]:
        """Return the places, among the concrete function's parameters, of the variables that it is there to change."""
        captures = list(self.get_concrete_function().graph.captures)
        parameters = len(self.get_concrete_function().graph.inputs) - len(captures)
        return frozenset(parameters + place for place, (outer, _) in enumerate(captures) if id(outer) in self._trained)


def step_function(
    name: Pass, model: keras.Model, batch: Any, compiler: Compile, mirrored: tf.distribute.Strategy | None = None
) -> Step:
    """Return the step of a pass on one fixed batch: `graph`, `xla` or `eager`, on one device or mirrored.

    The step raises NothingToDifferentiateError, when it is traced or called, where there is no gradient to compute.
    """

    def forward(batch: Any) -> Any:
        return model(batch, training=False)

    def forward_backward(batch: Any) -> Any:
        gradients.expect_variables(model)
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(batch, training=True))
            loss = tf.add_n([tf.nn.l2_loss(tf.cast(output, tf.float32)) for output in outputs])
        computed = tape.gradient(loss, variables)
        step.without_gradient = gradients.missing(model, variables, computed)
        return [gradient for gradient in computed if gradient is not None]

    function: Any = forward if name == "forward" else forward_backward
    if mirrored is not None:
        batch = replicas.shares(batch, mirrored)
        function = replicas.pass_function(function, compiler, mirrored, gradients=name == "forward_backward")
    if compiler != "eager":
        # AutoGraph never enters Keras, so there is nothing for it to convert, and its search takes longer than tracing.
        # On several devices, each has compiled its part separately.
        function = tf.function(function, jit_compile=compiler == "xla" and mirrored is None, autograph=False)
    step = Step(function, batch, compiled=compiler != "eager", direct=mirrored is None)
    return step

"""The step of a pass that is timed: the net on a fixed batch, returning its outputs or its gradients."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from sweeps.tasks.timing import replicas
from tracking.record import Compile, Pass

REMEDY = "set passes=[forward], or train some of its layers (trainable=True)"


class NothingToDifferentiateError(RuntimeError):
    """A differentiating pass of a net that has no trainable variable, or none that a gradient reaches."""


class Step:
    """A function of one fixed batch, called without arguments.

    The same tensors go in every time, but as arguments: TensorFlow turns small captured ones into constants, and folds
    away what is computed from them.
    """

    def __init__(self, function: Any, batch: Any, *, compiled: bool, direct: bool) -> None:
        """`direct` calls the traced function itself, without TensorFlow's search for one that fits the arguments."""
        self._function, self._batch, self.compiled = function, batch, compiled
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

    @property
    def inputs(self) -> int:
        """The number of the concrete function's parameters that are the batch."""
        return len(tf.nest.flatten(self._batch, expand_composites=True))


def step_function(
    name: Pass, model: keras.Model, batch: Any, compiler: Compile, mirrored: tf.distribute.Strategy | None = None
) -> Step:
    """Return the step of a pass on one fixed batch: `graph`, `xla` or `eager`, on one device or mirrored.

    The step raises NothingToDifferentiateError, when it is traced or called, where there is no gradient to compute.
    """

    def forward(batch: Any) -> Any:
        return model(batch, training=False)

    def forward_backward(batch: Any) -> Any:
        variables = model.trainable_variables
        if not variables:
            message = f"expected {model.name} to have something to differentiate. Received: no trainable variable"
            raise NothingToDifferentiateError(f"{message}; {REMEDY}")
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(batch, training=True))
            loss = tf.add_n([tf.nn.l2_loss(tf.cast(output, tf.float32)) for output in outputs])
        gradients = tape.gradient(loss, variables)
        known = [gradient for gradient in gradients if gradient is not None]
        if not known:
            message = f"expected {model.name} to have something to differentiate. Received: no gradient for any of its"
            raise NothingToDifferentiateError(f"{message} {len(variables)} trainable variables; {REMEDY}")
        pairs = zip(variables, gradients, strict=True) if len(known) < len(variables) else ()
        step.without_gradient = tuple(variable.path for variable, gradient in pairs if gradient is None)
        return known

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

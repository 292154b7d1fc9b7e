"""Inspects a step's first call, off the clock: whether it computed everything, and finite numbers.

A certain fault is an exception, before anything is timed. One that only makes a figure doubtful becomes evidence.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.eager import context

from nets.counting.work import Work
from sweeps.tasks.graphs import flat_graph, graph_work, xla_program
from sweeps.tasks.graphs.graph_work import GraphWork
from sweeps.tasks.graphs.xla_program import Program
from sweeps.tasks.timing.steps import Step
from tracking.analysis.doubts import LEAST_WORK
from tracking.record import Compile

_MORE = 1.05
"""Where the graph has this many times the products of the layer table, the table does not count everything."""
_RECURRENT = ("While", "CudnnRNN")
"""What recurrent layers become in a graph; the layer table counts their operations."""
_HEALTH = 2
"""The mode of DebugNumericSummaryV2 that only says whether any number is infinite or NaN."""


class NothingComputedError(RuntimeError):
    """A step whose result does not depend on its input."""


class Inspection:
    """Inspects one pass: call `start` before its first call and `look` after it, then read the attributes."""

    def __init__(self, step: Step, compiler: Compile, work: Work, *, binding: bool = True) -> None:
        """`binding`: the step must compute what the layer table says; one of the user's own may compute anything."""
        self._step, self._compiler, self._work, self._binding = step, compiler, work, binding
        self.flops: int | None = work.flops
        """Floating-point operations of the step; None where the layer table does not count all of them."""
        self.evidence: dict[str, float] = {}
        """`nonfinite_outputs`: how many of the step's results contain nan or infinity; `work_share`: the share
        of the layer table's products that is computed."""
        self.facts: dict[str, Any] = {}

    def start(self) -> None:
        """Make TensorFlow keep the graph that it optimises for the first call."""
        if self._compiler == "graph":
            context.context().enable_graph_collection()

    def look(self, output: Any) -> None:
        """Inspect the first call's result and its graph. Raises NothingComputedError."""
        optimised = self._optimised()
        self.evidence["nonfinite_outputs"] = float(sum(not _finite(tensor) for tensor in _tensors(output)))
        try:
            traced = self._step.get_concrete_function()
        except Exception as error:
            if self._step.compiled:
                raise
            # A step that runs without a compiler may do things that no graph can.
            self.facts["computed"] = f"not inspected: {type(error).__name__} when traced"
        else:
            flat = flat_graph.of_function(traced)
            program = self._xla_program(output)
            trained = self._step.trained()
            self._judge(graph_work.look(flat, optimised, self._step.inputs, self._compiler, program, trained))
        if self._step.without_gradient:
            self.facts["without_gradient"] = list(self._step.without_gradient)
            print("no gradient:", ", ".join(self._step.without_gradient), flush=True)
        missing = self._work.uncounted
        if "flops" not in self.facts and missing:
            self.facts["flops"] = f"not counted: {', '.join(missing)}"
        if "flops" in self.facts:
            self.flops = None
            print("FLOPs", self.facts["flops"], flush=True)

    def _optimised(self) -> flat_graph.FlatGraph | None:
        """Return the graph that TensorFlow has optimised, where there is one that can be read."""
        if self._compiler != "graph":
            return None
        graphs = context.context().export_run_metadata().function_graphs
        context.context().disable_graph_collection()
        if len(graphs) != 1:
            return None
        try:
            return flat_graph.of_definition(graphs[0].post_optimization_graph)
        except (ValueError, tf.errors.OpError) as error:  # an operation of the optimiser's own
            print(f"the optimised graph cannot be read: {error}", flush=True)
            return None

    def _xla_program(self, output: Any) -> Program | None:
        """Return XLA's program of the step; None for another compiler, or where it cannot be read.

        On GPUs it says nothing: products are calls of libraries there, and one call may stand for several.
        """
        if self._compiler != "xla" or not all("device:CPU" in tensor.device for tensor in _tensors(output)):
            return None
        try:
            return xla_program.read(self._step.xla_program())
        except (TypeError, ValueError, tf.errors.OpError) as error:
            print(f"XLA's program cannot be read: {error}", flush=True)
            return None

    def _judge(self, computed: GraphWork) -> None:
        counted = self._work.products
        self.facts["products"] = (
            computed.least if computed.least == computed.most else {"least": computed.least, "most": computed.most}
        )
        if not computed.needs_input and self._step.trained():
            raise NothingComputedError(
                "expected a step that changes the weights by its input. Received: one that changes them alike for "
                "every input, or not at all"
            )
        if not computed.needs_input:
            raise NothingComputedError(
                "expected a step whose result depends on its input. Received: a graph with the same outputs for "
                "every input"
            )
        hidden = [kind for kind in computed.hidden if not (self._work.recurrent and kind.startswith(_RECURRENT))]
        # Without a compiler, unused gradients are computed too: more operations, but not more work.
        more = computed.least if self._compiler == "eager" else computed.most or computed.least
        if more > _MORE * counted:
            upto = "up to " * (more > computed.least)
            self.facts["flops"] = (
                f"not counted: the graph multiplies {upto}{more / 1e9:.3g} GFLOP, the layer table {counted / 1e9:.3g}"
            )
        elif hidden:
            self.facts["flops"] = f"not counted: the graph does not say what is in {', '.join(hidden)}"
        elif counted and computed.most is not None and (computed.least == computed.most or computed.most < counted):
            share = computed.most / counted
            if self._binding:
                self.evidence["work_share"] = share
            elif share < LEAST_WORK:
                self.facts["flops"] = f"not counted: the model's own training computes {share:.0%} of the layer table's"


def _tensors(output: Any) -> list[tf.Tensor]:
    """Return the tensors of a step's result, including those of each replica and of sparse gradients.

    A `train_step` of the user's own may also return numbers of Python's, or nothing.
    """
    flat = keras.tree.flatten(tf.nest.flatten(output, expand_composites=True))
    tensors = [each for each in flat if isinstance(each, tf.Tensor)]
    return [tensor for tensor in tensors if tensor.dtype.is_floating and tensor.shape.num_elements()]


def _finite(tensor: tf.Tensor) -> bool:
    with tf.device(tensor.device):
        if tensor.dtype == tf.bfloat16:  # not every device has the operation for it
            tensor = tf.cast(tensor, tf.float32)
        summary = tf.raw_ops.DebugNumericSummaryV2(
            input=tensor, tensor_debug_mode=_HEALTH, tensor_id=0, output_dtype=tf.float32
        )
    return float(summary[1]) == 0.0

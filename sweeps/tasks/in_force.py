"""Whether what a trial asked for is what TensorFlow does, told from TensorFlow's own graph and settings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tracking.record import Precision, Trial

DTYPES: dict[Precision, str] = {
    "float32": "float32",
    "tf32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
_HEAVY = {
    "Conv2D",
    "Conv2DBackpropInput",
    "Conv2DBackpropFilter",
    "DepthwiseConv2dNative",
    "MatMul",
    "BatchMatMulV2",
    "Einsum",
}
"""The operations that a precision is about: nearly all of a net's arithmetic."""


class NotInForceError(RuntimeError):
    """TensorFlow does something else than the trial asked for."""


def check(trial: Trial, step: Callable[[], Any]) -> dict[str, Any]:
    """Facts about precision, compiler and threads as they are, after the step's first call. Raises NotInForceError."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    if trial.device.threads not in (None, threads):
        raise NotInForceError(f"expected device.threads={trial.device.threads}. Received: {threads} threads")
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    if tf32 != (trial.precision == "tf32"):
        raise NotInForceError(f"expected precision={trial.precision}. Received: TF32 {'on' if tf32 else 'off'}")
    if trial.compile == "eager":
        if hasattr(step, "get_concrete_function"):
            raise NotInForceError("expected compile=eager. Received: a compiled function")
        computed = keras.config.dtype_policy().compute_dtype
        if computed != DTYPES[trial.precision]:
            raise NotInForceError(f"expected precision={trial.precision}. Received: layers that compute in {computed}")
        return {"threads": threads, "tf32": tf32, "compiler": "eager"}
    function = step.get_concrete_function()  # type: ignore[attr-defined]
    xla = bool(function.function_def.attr["_XlaMustCompile"].b)
    if xla != (trial.compile == "xla"):
        raise NotInForceError(f"expected compile={trial.compile}. Received: XLA {'on' if xla else 'off'}")
    dtypes = _heavy_dtypes(function.graph)
    expected = DTYPES[trial.precision]
    if dtypes and dtypes.most_common(1)[0][0] != expected:
        counts = ", ".join(f"{count} in {dtype}" for dtype, count in dtypes.most_common())
        raise NotInForceError(f"expected convolutions and products in {expected}. Received: {counts}")
    return {"threads": threads, "tf32": tf32, "compiler": "xla" if xla else "graph", "dtypes": dict(dtypes)}


def _heavy_dtypes(graph: Any) -> Counter[str]:
    """How many of the convolutions and products of the graph, and of functions that it calls, run in which type."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    return Counter(tf.as_dtype(node.attr["T"].type).name for node in nodes if node.op in _HEAVY)

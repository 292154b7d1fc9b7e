"""Checks, by TensorFlow's own graph and settings, that TensorFlow does what the trial says."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import keras
import tensorflow as tf

from nets.saved import graphs, kinds
from sweeps.machine import environment
from sweeps.tasks.timing.steps import Step
from tracking.record import Layout, Precision, Trial

DTYPES: dict[Precision, str] = {
    "float32": "float32",
    "tf32": "float32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
DATA_FORMATS: dict[Layout, str] = {"channels_last": "NHWC", "channels_first": "NCHW"}
_CONVOLUTIONS = {"Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"}
_HEAVY = _CONVOLUTIONS | {"DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Einsum"}
"""The operations that a precision concerns: nearly all of a net's arithmetic."""

_AMPERE = (8, 0)
"""The first compute capability that has TF32."""


class NotInForceError(RuntimeError):
    """TensorFlow does something other than the trial says."""


def check(trial: Trial, step: Step, model: keras.Model) -> dict[str, Any]:
    """Return facts about precision, compiler, threads, layout and devices, after the step's first call.

    Raises NotInForceError where one of them is not what the trial says.
    """
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    if trial.device.threads not in (None, threads):
        raise NotInForceError(f"expected device.threads={trial.device.threads}. Received: {threads} threads")
    tf32 = _tf32()
    if tf32 != (trial.precision == "tf32"):
        raise NotInForceError(f"expected precision={trial.precision}. Received: TF32 {'on' if tf32 else 'off'}")
    if trial.compile == "graph" and (flag := environment.auto_jit(os.environ, gpu=trial.device.kind == "gpu")):
        way_out = "unset it, or ask for compile=xla"
        raise NotInForceError(f"expected compile=graph. Received: TF_XLA_FLAGS={flag}, XLA for parts of it; {way_out}")
    devices = {_short(weight.value.device) for weight in model.trainable_weights}
    if trial.device.kind == "gpu" and not all(device.startswith("GPU") for device in devices):
        raise NotInForceError(f"expected weights on the GPU. Received: {', '.join(sorted(devices))}")
    facts = {"threads": threads, "tf32": tf32, "compiler": trial.compile, "layout": trial.layout}
    facts["devices"] = sorted(devices)
    if graphs.is_saved_graph(model):
        facts["graph"] = kinds.INFERENCE_ONLY
    if trial.compile == "eager":
        return facts | _eager(trial, step, model)
    return facts | _compiled(trial, step)


def _tf32() -> bool:
    """Whether products use TF32: it is enabled, CUDA's libraries may use it, and all GPUs have it."""
    if not tf.config.experimental.tensor_float_32_execution_enabled() or os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.get_visible_devices("GPU")
    ]
    return bool(capabilities) and min(capabilities) >= _AMPERE


def _eager(trial: Trial, step: Step, model: keras.Model) -> dict[str, Any]:
    """Check the layers' own settings, as there is no graph."""
    if step.compiled:
        raise NotInForceError("expected compile=eager. Received: a compiled function")
    dtypes = Counter(layer.compute_dtype for layer in model._flatten_layers(recursive=True) if layer.weights)
    _expect_most(dtypes, DTYPES[trial.precision], f"expected layers that compute in {DTYPES[trial.precision]}")
    layouts = Counter(layer.data_format for layer in model._flatten_layers() if hasattr(layer, "data_format"))
    _expect_most(layouts, trial.layout, f"expected layers {trial.layout}")
    return {"dtypes": dict(dtypes), "layouts": dict(layouts)}


def _compiled(trial: Trial, step: Step) -> dict[str, Any]:
    function = step.get_concrete_function()
    definition = function.graph.as_graph_def()
    library = {called.signature.name: called for called in definition.library.function}
    nodes = [*definition.node, *(node for called in library.values() for node in called.node_def)]
    heavy = [node for node in nodes if node.op in _HEAVY and not step.updates(node.name)]
    facts: dict[str, Any] = {}
    if trial.device.gpus > 1:  # each replica's part is compiled separately
        calls = [library[node.attr["f"].func.name] for node in definition.node if node.attr["f"].func.name in library]
        xla = any(called.attr["_XlaMustCompile"].b for called in calls)
        work = [node for node in definition.node if node.op in _HEAVY or node.attr["f"].func.name]
        places = {_short(node.device) for node in work if node.device}
        facts["devices"] = sorted(places)
        if len(places) < trial.device.gpus:
            raise NotInForceError(f"expected work on {trial.device.gpus} GPUs. Received: {', '.join(sorted(places))}")
    else:
        xla = bool(function.function_def.attr["_XlaMustCompile"].b)
    if xla != (trial.compile == "xla"):
        raise NotInForceError(f"expected compile={trial.compile}. Received: XLA {'on' if xla else 'off'}")
    dtypes = Counter(tf.as_dtype(node.attr["T"].type).name for node in heavy)
    _expect_most(dtypes, DTYPES[trial.precision], f"expected convolutions and products in {DTYPES[trial.precision]}")
    formats = Counter(node.attr["data_format"].s.decode() for node in nodes if node.op in _CONVOLUTIONS)
    wanted = DATA_FORMATS[trial.layout]
    _expect_most(formats, wanted, f"expected layout={trial.layout}, convolutions of {wanted}")
    return facts | {"dtypes": dict(dtypes), "data_formats": dict(formats)}


def _expect_most(counted: Counter[str], wanted: str, expected: str) -> None:
    """Raise NotInForceError unless the most frequent one is the wanted one, or there is none."""
    if counted and counted.most_common(1)[0][0] != wanted:
        counts = ", ".join(f"{count} in {name}" for name, count in counted.most_common())
        raise NotInForceError(f"{expected}. Received: {counts}")


def _short(device: str) -> str:
    """`GPU:0` of `/job:localhost/replica:0/task:0/device:GPU:0`."""
    return device.rpartition("device:")[2]

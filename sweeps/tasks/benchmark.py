"""Time a net's passes: `forward` in inference mode, `forward_backward` in training mode with gradients.

Nothing timed is pruned: the forward pass returns the net's outputs, the training step the gradient of every trainable
variable that has one; the returned tensors stay on the device and are freed off the clock. The batch is made once, and
is an argument of what is compiled. The first call's graph and result are looked at before anything is timed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

import nets
from nets import custom
from nets.conventions import keras_defaults
from nets.conventions.layout import build_in
from nets.counting import layers, work
from nets.counting.layers import Trace
from nets.counting.work import Work
from nets.weights import loading
from sweeps.machine import environment, host, nvml
from sweeps.tasks.graphs import inputs
from sweeps.tasks.timing import gpus, in_force, loop, profiling, replicas
from sweeps.tasks.timing.evidence import Watch
from sweeps.tasks.timing.inspection import Inspection
from sweeps.tasks.timing.steps import step_function
from sweeps.worker.forkserver import Send
from tracking.record import Pass, Precision, Trial
from tracking.schema.measurement import Measurement

POLICIES: dict[Precision, str] = {
    "float32": "float32",
    "tf32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
TITLES: dict[Pass, str] = {"forward": "Forward", "forward_backward": "Forward-backward"}
_LOG_EVERY = 10


def run(trial: Trial, send: Send) -> None:
    """Build the trial's net and time each of its passes, sending host, layers and measurements as they are known."""
    start = time.perf_counter()
    configure(trial)
    facts = host.facts() | device_facts(trial)
    send("host", facts)
    built_from = time.perf_counter()
    send("phase", ("setup", built_from - start))
    count = trial.device.gpus
    mirrored = replicas.strategy([f"GPU:{index}" for index in range(count)]) if count > 1 else None
    with mirrored.scope() if mirrored else contextlib.nullcontext():
        model = build(trial)
    inference = layers.trace(model, trial.batch)
    for row in inference.rows:
        print(row.name, list(row.output_shape))
    if mirrored:
        print(f"global batch {trial.batch}: {trial.batch // count} images on each of {count} GPUs")
    fed = inputs.feed(trial, inference)
    inputs.expect_legal(trial, fed, inference)
    send("layers", inference.rows)
    send("phase", ("build", time.perf_counter() - built_from))
    facts["in_force"] = {"inputs": fed.facts}
    send("host", facts)
    steps: dict[Pass, Callable[[], Any]] = {}
    for name in trial.passes:
        step = steps[name] = step_function(name, model, fed.tensors, trial.compile, mirrored)
        inspection = Inspection(step, trial.compile, _work(name, model, trial, inference, fed))
        measurement = time_pass(name, step, trial, inspection)
        facts["in_force"][name] = in_force.check(trial, step, model) | inspection.facts
        facts["env"] = environment.here()  # a module of the user's may have set variables that are read late
        send("host", facts)
        send("pass", (name, measurement))
    if trial.profile:
        profiling.record(steps)


def configure(trial: Trial) -> None:
    """Give TensorFlow the trial's device, threads, precision and layout, before it touches a device."""
    threads = trial.device.threads or len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if trial.device.kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
    else:
        gpus.prepare(trial.device)
    if trial.layout == "channels_first":
        # TensorFlow would turn the convolutions round where it thinks the other order faster.
        tf.config.optimizer.set_experimental_options({"layout_optimizer": False})
    keras_defaults.restore()
    keras.config.set_image_data_format(trial.layout)
    tf.config.experimental.enable_tensor_float_32_execution(trial.precision == "tf32")
    keras.config.set_dtype_policy(POLICIES[trial.precision])


def device_facts(trial: Trial) -> dict[str, Any]:
    """What TensorFlow itself reports of its threads and oneDNN and, on GPUs, NVIDIA's library of the cards."""
    facts: dict[str, Any] = {
        "tf_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        # What came of TF_ENABLE_ONEDNN_OPTS, of the processor and of how TensorFlow was built.
        "onednn": "on" if _pywrap_util_port.IsMklEnabled() else "off",
    }
    if trial.device.kind == "gpu":
        facts |= host.gpu_facts()
        facts["gpu"] = ", ".join(
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        )
        cards = [card.facts() for card in nvml.visible_cards()]
        facts["gpu_uuid"] = [card.pop("uuid", None) for card in cards]
        facts["gpus"] = cards
        facts["batch_per_gpu"] = trial.batch // trial.device.gpus
        facts["cuda_visible_devices"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return facts


def build(trial: Trial) -> keras.Model:
    """The trial's model in its layout, with its weights if it names any. The same seed gives the same initial ones."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(trial.seed)
        if trial.target is not None:
            return custom.from_target(trial.target, **trial.model_args)
        return nets.build(trial.model, **trial.model_args)

    model = build_in(trial.layout, make)
    if trial.weights is not None:
        print(loading.load(model, trial.weights))
    return model


def fixed_batch(trial: Trial, model: keras.Model) -> Any:
    """What the model is fed: the same values by the same seed, in either order of axes."""
    return inputs.feed(trial, layers.trace(model, trial.batch)).tensors


def _work(name: Pass, model: keras.Model, trial: Trial, inference: Trace, fed: inputs.Fed) -> Work:
    """The operations of a pass by the layer table."""
    if name == "forward":
        return work.forward(inference)
    training = layers.trace(model, trial.batch, training=True)
    inputs.expect_allowed(fed, training)
    return work.training(training)


def time_pass(name: Pass, step: Callable[[], Any], trial: Trial, inspection: Inspection | None = None) -> Measurement:
    """Time one pass by the trial's protocol; the log gets the articles' lines.

    `inspection` looks at the first call off the clock, may end the pass there, and counts its operations.
    """
    for index in range(trial.device.gpus):
        tf.config.experimental.reset_memory_stats(f"GPU:{index}")
    watch = Watch(nvml.visible_cards() if trial.device.gpus else ())
    trace_s = 0.0

    def first() -> Any:
        nonlocal trace_s
        if inspection is not None:
            inspection.start()
        if trial.compile != "eager":
            start = time.perf_counter()
            step.get_concrete_function()  # type: ignore[attr-defined]
            trace_s = time.perf_counter() - start
        return step()

    def progress(index: int, seconds: float) -> None:
        watch.between_steps()
        if index % _LOG_EVERY == 0:
            print(f"{datetime.now()}: step {index}, duration = {seconds:.3f}", flush=True)  # noqa: DTZ005

    timed = loop.measure(
        step,
        trial.protocol,
        first=first,
        after_first=inspection.look if inspection is not None else None,
        sync=tf.test.experimental.sync_devices,
        before_steps=watch.start,
        progress=progress,
    )
    evidence = watch.stop()
    if inspection is not None:
        evidence |= inspection.evidence
    if trial.compile != "eager":
        # The rest of the first call: optimising or compiling, choosing kernels, allocating.
        compile_s = timed.first_call_s - trace_s - statistics.median(timed.step_s)
        evidence |= {"trace_s": trace_s, "compile_s": max(0.0, compile_s)}
    if "gpu_energy_j" in evidence:
        evidence["gpu_energy_j_per_image"] = evidence["gpu_energy_j"] / (trial.batch * len(timed.step_s))
    measurement = Measurement(
        first_call_s=timed.first_call_s,
        warmup_s=timed.warmup_s,
        step_s=timed.step_s,
        stopped=timed.stopped,
        flops=inspection.flops if inspection is not None else None,
        evidence=evidence,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        peak_device_mb=_peak_device_mb(trial.device.gpus),
    )
    print(
        f"{datetime.now()}: {TITLES[name]} across {len(timed.step_s)} steps, "  # noqa: DTZ005
        f"{measurement.mean_s:.3f} +/- {measurement.sd_s:.3f} sec / batch",
        flush=True,
    )
    return measurement


def _peak_device_mb(gpus: int) -> float | None:
    """The most memory that tensors took during the pass, on all GPUs together."""
    if gpus == 0:
        return None
    return sum(tf.config.experimental.get_memory_info(f"GPU:{index}")["peak"] for index in range(gpus)) / 2**20

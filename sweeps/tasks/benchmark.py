"""Time a net's passes: `forward` in inference mode, `forward_backward` in training mode with gradients, `train_step`.

Nothing timed is pruned: the forward pass returns the net's outputs, the training step the gradient of every trainable
variable that has one. The returned tensors stay on the device and are freed off the clock. The batch is made once and
is an argument of the compiled function. The first call's graph and result are inspected before anything is timed.
"""

from __future__ import annotations

import contextlib
import resource
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import keras
import tensorflow as tf

from nets.counting import layers, work
from nets.counting.layers import Trace
from nets.inputs import signature
from sweeps.machine import environment, host, nvml
from sweeps.tasks import setup
from sweeps.tasks.graphs import batches, inputs
from sweeps.tasks.timing import in_force, loop, profiling, replicas
from sweeps.tasks.timing.evidence import Watch
from sweeps.tasks.timing.inspection import Inspection
from sweeps.tasks.timing.steps import step_function
from sweeps.tasks.timing.train_step import Training
from sweeps.tasks.timing.updates import Updates
from sweeps.worker.messages import Host, Layers, PassMeasured, Phase, Send
from tracking.record import Pass, Trial
from tracking.schema.measurement import Measurement

TITLES: dict[Pass, str] = {
    "forward": "Forward",
    "forward_backward": "Forward-backward",
    "train_step": "Train-step",
}
_LOG_EVERY = 10


def run(trial: Trial, send: Send) -> None:
    """Build the trial's net and time each of its passes, sending host, layers and measurements as they are known."""
    start = time.perf_counter()
    setup.configure(trial)
    facts = host.facts() | setup.device_facts(trial)
    send(Host(facts))
    built_from = time.perf_counter()
    send(Phase("setup", built_from - start))
    count = trial.device.gpus
    mirrored = replicas.strategy([f"GPU:{index}" for index in range(count)]) if count > 1 else None
    batch = batches.of_trial(trial)
    given = batches.given_by(trial, batch)
    with mirrored.scope() if mirrored else contextlib.nullcontext():
        model = setup.build(trial, given)
    inference = layers.trace(model, trial.batch, inputs=signature.inputs(model, given))
    for row in inference.rows:
        print(row.name, list(row.output_shape))
    if mirrored:
        print(f"global batch {trial.batch}: {trial.batch // count} samples on each of {count} GPUs")
    fed = inputs.feed(trial, inference, batch)
    inputs.expect_legal(trial, fed, inference)
    send(Layers(inference.rows))
    send(Phase("build", time.perf_counter() - built_from))
    facts["in_force"] = {"inputs": fed.facts}
    send(Host(facts))
    steps: dict[Pass, Callable[[], Any]] = {}
    for name in trial.passes:
        counted = _trace(name, model, trial, inference, fed)
        if name == "train_step":
            training = Training(trial, model, fed.tensors, fed.targets, counted, mirrored)
            step = steps[name] = training.step()
        else:
            training = None
            step = steps[name] = step_function(name, model, fed.tensors, trial.compile, mirrored)
        done = work.forward(counted) if name == "forward" else work.training(counted)
        inspection = Inspection(step, trial.compile, done, binding=training is None or training.by_the_table)
        measurement = time_pass(name, step, trial, inspection, training.updates if training is not None else None)
        facts["in_force"][name] = in_force.check(trial, step, model) | inspection.facts
        if training is not None:
            facts["in_force"][name] |= training.in_force()
        facts["env"] = environment.here()  # a module of the user may have set variables that are read late
        send(Host(facts))
        send(PassMeasured(name, measurement))
    if trial.profile:
        profiling.record(steps)


def _trace(name: Pass, model: keras.Model, trial: Trial, inference: Trace, fed: inputs.Fed) -> Trace:
    """Return the trace of the net in the mode of a pass."""
    if name == "forward":
        return inference
    training = layers.trace(model, trial.batch, training=True, inputs=inference.inputs)
    inputs.expect_allowed(fed, training)
    return training


def time_pass(
    name: Pass,
    step: Callable[[], Any],
    trial: Trial,
    inspection: Inspection | None = None,
    updates: Updates | None = None,
) -> Measurement:
    """Time one pass by the trial's protocol, and print lines to the log as TensorFlow-benchmark articles do.

    `inspection` inspects the first call off the clock, may end the pass there, and counts its operations. `updates`
    says what became of the weights over the timed steps.
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

    def before_steps() -> None:
        if updates is not None:
            updates.start()
        watch.start()

    timed = loop.measure(
        step,
        trial.protocol,
        first=first,
        after_first=inspection.look if inspection is not None else None,
        sync=tf.test.experimental.sync_devices,
        before_steps=before_steps,
        progress=progress,
    )
    evidence = watch.stop()
    if updates is not None:
        evidence |= updates.stop(len(timed.step_s))
    if inspection is not None:
        evidence |= inspection.evidence
    if trial.compile != "eager":
        # The rest of the first call is optimising or compiling, choosing kernels, and allocating.
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
    """Return the peak memory of tensors during the pass, on all GPUs together, in units of 2**20 bytes."""
    if gpus == 0:
        return None
    return sum(tf.config.experimental.get_memory_info(f"GPU:{index}")["peak"] for index in range(gpus)) / 2**20

"""Time a net's passes: `forward` in inference mode, `forward_backward` in training mode with gradients.

Nothing timed is pruned: the forward pass returns the net's outputs, the training step the gradient of every trainable
variable; the returned tensors stay on the device and are freed off the clock. The batch is made on the device, once.
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
from nets import custom, keras_defaults, layers, weights
from nets.layout import build_in
from sweeps import environment, host, nvml, timing
from sweeps.evidence import Watch
from sweeps.forkserver import Send
from sweeps.tasks import gpus, in_force, profiling, replicas
from tracking.record import Layer, Measurement, Pass, Precision, Trial

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
    rows = layers.rows(model, trial.batch)
    for row in rows:
        print(row.name, list(row.output_shape))
    if mirrored:
        print(f"global batch {trial.batch}: {trial.batch // count} images on each of {count} GPUs")
    images = fixed_batch(trial, model)
    send("layers", rows)
    send("phase", ("build", time.perf_counter() - built_from))
    facts["in_force"] = {}
    steps: dict[Pass, Callable[[], Any]] = {}
    for name in trial.passes:
        step = steps[name] = step_function(name, model, images, trial.compile, mirrored)
        measurement = time_pass(name, step, trial, _step_flops(name, model, trial, rows))
        facts["in_force"][name] = in_force.check(trial, step, model)
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
        print(weights.load(model, trial.weights))
    return model


def fixed_batch(trial: Trial, model: keras.Model) -> tf.Tensor:
    """Normal(0, 0.1) values by the trial's seed, in the net's order of axes: the same images in either.

    A batch for several GPUs is in the machine's memory: on one of them it would be there beside that GPU's part.
    """
    shape = model.input_shape[1:]
    with tf.device("CPU:0") if trial.device.gpus > 1 else contextlib.nullcontext():
        if trial.layout == "channels_last":
            return keras.random.normal((trial.batch, *shape), stddev=0.1, seed=trial.seed)
        images = keras.random.normal((trial.batch, *shape[1:], shape[0]), stddev=0.1, seed=trial.seed)
        return keras.ops.moveaxis(images, -1, 1)


def step_function(
    name: Pass,
    model: keras.Model,
    images: tf.Tensor,
    compiler: str,
    mirrored: tf.distribute.Strategy | None = None,
) -> Callable[[], Any]:
    """One step of a pass on one fixed batch: `graph`, `xla` or `eager`, on one device or mirrored."""

    def forward(images: tf.Tensor) -> Any:
        return model(images, training=False)

    def forward_backward(images: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(images, training=True))
            loss = tf.add_n([tf.nn.l2_loss(tf.cast(output, tf.float32)) for output in outputs])
        return tape.gradient(loss, model.trainable_variables)

    function = forward if name == "forward" else forward_backward
    if mirrored is not None:
        return replicas.step_function(function, images, compiler, mirrored, gradients=name == "forward_backward")

    def step() -> Any:
        return function(images)

    # AutoGraph never enters Keras, so there is nothing for it to convert, and looking costs longer than tracing.
    return step if compiler == "eager" else tf.function(step, jit_compile=compiler == "xla", autograph=False)


def _step_flops(name: Pass, model: keras.Model, trial: Trial, rows: tuple[Layer, ...]) -> int:
    if name == "forward":
        return layers.totals(rows).flops
    return layers.training_flops(layers.rows(model, trial.batch, training=True))


def time_pass(name: Pass, step: Callable[[], Any], trial: Trial, flops: int) -> Measurement:
    """Time one pass by the trial's protocol; the log gets the seeds' lines."""
    for index in range(trial.device.gpus):
        tf.config.experimental.reset_memory_stats(f"GPU:{index}")
    watch = Watch(nvml.visible_cards() if trial.device.gpus else ())
    trace_s = 0.0

    def first() -> Any:
        nonlocal trace_s
        if trial.compile != "eager":
            start = time.perf_counter()
            step.get_concrete_function()  # type: ignore[attr-defined]
            trace_s = time.perf_counter() - start
        return step()

    def progress(index: int, seconds: float) -> None:
        watch.between_steps()
        if index % _LOG_EVERY == 0:
            print(f"{datetime.now()}: step {index}, duration = {seconds:.3f}", flush=True)  # noqa: DTZ005

    timed = timing.measure(
        step,
        trial.protocol,
        first=first,
        sync=tf.test.experimental.sync_devices,
        before_steps=watch.start,
        progress=progress,
    )
    evidence = watch.stop()
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
        flops=flops,
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

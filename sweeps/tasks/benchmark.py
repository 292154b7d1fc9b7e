"""Time a net's passes: `forward` in inference mode, `forward_backward` in training mode with gradients.

Nothing timed is pruned: the forward pass returns the net's outputs, the training step the gradient of every trainable
variable; the returned tensors stay on the device and are freed off the clock.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import keras
import tensorflow as tf

import nets
from nets import custom, layers, weights
from sweeps import host, timing
from sweeps.evidence import Watch
from sweeps.forkserver import Send
from sweeps.tasks import in_force, profiling
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
    keras.utils.set_random_seed(trial.seed)
    built_from = time.perf_counter()
    send("phase", ("setup", built_from - start))
    model = build(trial)
    rows = layers.rows(model, trial.batch)
    for row in rows:
        print(row.name, list(row.output_shape))
    images = keras.random.normal((trial.batch, *model.input_shape[1:]), stddev=0.1, seed=trial.seed)
    send("layers", rows)
    send("phase", ("build", time.perf_counter() - built_from))
    facts["in_force"] = {}
    steps: dict[Pass, Callable[[], Any]] = {}
    for name in trial.passes:
        step = steps[name] = step_function(name, model, images, trial.compile)
        measurement = time_pass(name, step, trial, _step_flops(name, model, trial, rows))
        facts["in_force"][name] = in_force.check(trial, step)
        send("host", facts)
        send("pass", (name, measurement))
    if trial.profile:
        profiling.record(steps)


def configure(trial: Trial) -> None:
    """Give TensorFlow the trial's device, threads and precision. Must run before TensorFlow touches a device."""
    threads = trial.device.threads or len(os.sched_getaffinity(0))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    gpus = tf.config.list_physical_devices("GPU")
    if trial.device.kind == "cpu":
        tf.config.set_visible_devices([], "GPU")
    elif not gpus:
        raise RuntimeError("expected a GPU for device.kind=gpu. Received: TensorFlow sees none, or lacks CUDA")
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.experimental.enable_tensor_float_32_execution(trial.precision == "tf32")
    keras.config.set_dtype_policy(POLICIES[trial.precision])


def device_facts(trial: Trial) -> dict[str, Any]:
    """What TensorFlow itself reports of its threads and, on a GPU, of the card."""
    facts: dict[str, Any] = {"tf_threads": tf.config.threading.get_intra_op_parallelism_threads()}
    if trial.device.kind == "gpu":
        gpus = tf.config.list_physical_devices("GPU")
        facts["gpu"] = ", ".join(
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus
        )
        facts["cuda_visible_devices"] = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return facts


def build(trial: Trial) -> keras.Model:
    """The trial's model, with its weights if it names any."""
    if trial.target is not None:
        model = custom.from_target(trial.target, **trial.model_args)
    else:
        model = nets.build(trial.model, **trial.model_args)
    if trial.weights is not None:
        print(weights.load(model, trial.weights))
    return model


def step_function(name: Pass, model: keras.Model, images: tf.Tensor, compiler: str) -> Callable[[], Any]:
    """One step of a pass on one fixed batch, compiled as asked: `graph`, `xla` or `eager`."""

    def forward() -> Any:
        return model(images, training=False)

    def forward_backward() -> Any:
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(images, training=True))
            loss = tf.add_n([tf.nn.l2_loss(tf.cast(output, tf.float32)) for output in outputs])
        return tape.gradient(loss, model.trainable_variables)

    step = forward if name == "forward" else forward_backward
    # AutoGraph never enters Keras, so there is nothing for it to convert, and looking costs longer than tracing.
    return step if compiler == "eager" else tf.function(step, jit_compile=compiler == "xla", autograph=False)


def _step_flops(name: Pass, model: keras.Model, trial: Trial, rows: tuple[Layer, ...]) -> int:
    if name == "forward":
        return layers.totals(rows).flops
    return layers.training_flops(layers.rows(model, trial.batch, training=True))


def time_pass(name: Pass, step: Callable[[], Any], trial: Trial, flops: int) -> Measurement:
    """Time one pass by the trial's protocol; the log gets the seeds' lines."""
    gpus = tf.config.get_visible_devices("GPU")
    for index in range(len(gpus)):
        tf.config.experimental.reset_memory_stats(f"GPU:{index}")

    def progress(index: int, seconds: float) -> None:
        if index % _LOG_EVERY == 0:
            print(f"{datetime.now()}: step {index}, duration = {seconds:.3f}", flush=True)  # noqa: DTZ005

    watch = Watch()
    timed = timing.measure(
        step,
        trial.protocol,
        sync=tf.test.experimental.sync_devices,
        before_steps=watch.start,
        progress=progress,
    )
    evidence = watch.stop()
    measurement = Measurement(
        first_call_s=timed.first_call_s,
        warmup_s=timed.warmup_s,
        step_s=timed.step_s,
        stopped=timed.stopped,
        flops=flops,
        evidence=evidence,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        peak_device_mb=_peak_device_mb(len(gpus)),
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

"""Measures what limits every net on a device: the rates of its matrix product and of its memory copy.

Runs once on each node for each device and precision, in a process of its own, before the first such trial there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from sweeps.tasks.setup import configure
from sweeps.tasks.timing.evidence import Watch
from sweeps.worker.messages import Limits, Send
from tracking.analysis.doubts import CALIBRATION_SHARE
from tracking.record import Precision, Trial

DTYPES: dict[Precision, tf.DType] = {
    "float32": tf.float32,
    "tf32": tf.float32,
    "bfloat16": tf.bfloat16,
    "float16": tf.float16,
}
_COPY_BYTES = (2**28, 2**30, 2**32)
_SIDES = (512, 1024, 2048, 4096, 8192, 16384)
_LONG_ENOUGH_S = 0.03
_COPY_LONG_ENOUGH_S = 0.002
"""Twenty times the overhead of starting a copy and waiting for it."""
_RUNS = 8
_TRIES = 2


def run(trial: Trial, send: Send) -> None:
    """Send `Limits`: `peak_gflops_per_s` of a square matrix product, `copy_gb_per_s` read and written.

    Where other processes used much of the cores meanwhile, it tries again and takes the best; `others_share` is their
    share in the quieter try.
    """
    configure(trial)
    peak = copied = 0.0
    others = 1.0
    for _ in range(_TRIES):
        watch = Watch()
        watch.start()
        # Several GPUs are measured one after another, and added up.
        rates = [_rates(trial, index) for index in range(max(1, trial.device.gpus))]
        evidence = watch.stop()
        peak = max(peak, sum(rate for rate, _ in rates))
        copied = max(copied, sum(rate for _, rate in rates))
        others = min(others, evidence["others_share"] + evidence["steal_share"])
        if others <= CALIBRATION_SHARE:
            break
    send(Limits({"peak_gflops_per_s": peak, "copy_gb_per_s": copied, "others_share": others}))


def _rates(trial: Trial, index: int) -> tuple[float, float]:
    with tf.device(f"{trial.device.kind.upper()}:{index}"):
        return peak_gflops_per_s(DTYPES[trial.precision]), copy_gb_per_s()


def peak_gflops_per_s(dtype: tf.DType) -> float:
    """Return the best rate of products of two matrices, up to a size at which one lasts 30 ms."""
    rate = 0.0
    for side in _SIDES:
        a = tf.cast(tf.random.normal((side, side)), dtype)
        product = tf.function(lambda a=a: tf.matmul(a, a))
        seconds = _best_s(product)
        rate = max(rate, 2 * side**3 / seconds / 1e9)
        if seconds > _LONG_ENOUGH_S:
            break
    return rate


def copy_gb_per_s() -> float:
    """Return the best rate of reading and writing every byte of 256 MiB, or of as much as takes 2 ms."""
    rate = 0.0
    for size in _COPY_BYTES:
        source = tf.zeros(size // 4)
        seconds = _best_s(tf.function(lambda source=source: source + 1.0))
        rate = max(rate, 2 * size / seconds / 1e9)
        if seconds > _COPY_LONG_ENOUGH_S:
            break
    return rate


def _best_s(step: Callable[[], Any]) -> float:
    step()
    best = float("inf")
    for _ in range(_RUNS):
        tf.test.experimental.sync_devices()
        start = time.perf_counter()
        output = step()
        tf.test.experimental.sync_devices()
        best = min(best, time.perf_counter() - start)
        del output
    return best

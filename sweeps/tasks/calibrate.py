"""What a device can do at a precision: its matrix product and its memory copy, the two limits of every net.

Run once a sweep for each device and precision, in a process of its own, before the trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from sweeps.forkserver import Send
from sweeps.tasks.benchmark import configure
from tracking.record import Precision, Trial

DTYPES: dict[Precision, tf.DType] = {
    "float32": tf.float32,
    "tf32": tf.float32,
    "bfloat16": tf.bfloat16,
    "float16": tf.float16,
}
_COPY_BYTES = 2**28
_SIDES = (512, 1024, 2048, 4096, 8192, 16384)
_LONG_ENOUGH_S = 0.08
_RUNS = 5


def run(trial: Trial, send: Send) -> None:
    """Send ("limits", {...}): `peak_gflops_per_s` of a square matrix product, `copy_gb_per_s` read and written."""
    configure(trial)
    send("limits", {"peak_gflops_per_s": peak_gflops_per_s(DTYPES[trial.precision]), "copy_gb_per_s": copy_gb_per_s()})


def peak_gflops_per_s(dtype: tf.DType) -> float:
    """The best of several products of two matrices, as large as it takes for one to last 80 ms."""
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
    """The best of several passes over 256 MiB that read and write every byte."""
    source = tf.zeros(_COPY_BYTES // 4)
    return 2 * _COPY_BYTES / _best_s(tf.function(lambda: source + 1.0)) / 1e9


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

"""Times a net's passes in a bare loop: the same compiled function in its own process, without the rest of the system.

usage: bare_loop.py MODEL BATCH BURN_IN STEPS; prints {pass: [seconds, ...]} as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

import keras
import tensorflow as tf

import nets
from sweeps.tasks.timing.steps import step_function
from tracking.record import DEFAULT_PASSES


def main(name: str, batch: int, burn_in: int, steps: int) -> None:
    keras.utils.set_random_seed(0)
    model = nets.build(name)
    images = keras.random.normal((batch, *model.input_shape[1:]), stddev=0.1, seed=0)
    seconds: dict[str, list[float]] = {}
    for pass_name in DEFAULT_PASSES:
        step = step_function(pass_name, model, images, "graph")
        for _ in range(1 + burn_in):
            step()
        tf.test.experimental.sync_devices()
        seconds[pass_name] = []
        for _ in range(steps):
            start = time.perf_counter()
            output = step()
            tf.test.experimental.sync_devices()
            seconds[pass_name].append(time.perf_counter() - start)
            del output
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

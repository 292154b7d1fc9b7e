"""The step of `passes=[train_step]` beside the one that `model.fit` takes, in one process and in interleaved rounds.

Both train a net of their own from the same weights, on the same batch, with the same optimizer. `fit` reads the batch
from a tf.data pipeline that has it in memory; its own train function is timed, as it is called: the next batch from the
iterator, and the step. The ratio is that of the rounds' medians, ours to fit's, with its 95% interval.

usage: python benchmarks/fit.py [--models vgg16 resnet_v2_50] [--batch 4] [--steps 8] [--rounds 5] [--optimizer sgd]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import keras
import tensorflow as tf

from nets import keras_names
from nets.counting import layers
from sweeps.tasks import setup
from sweeps.tasks.graphs import inputs
from sweeps.tasks.timing.train_step import Training
from tracking.analysis.stats.intervals import ratio_interval
from tracking.record import Trial

Run = Callable[[int], list[float]]
"""Takes this many steps and returns the seconds of each."""


def seconds_of(call: Callable[[], Any]) -> float:
    """Return the seconds of one call, until the device has finished it."""
    tf.test.experimental.sync_devices()
    start = time.perf_counter()
    output = call()
    tf.test.experimental.sync_devices()
    seconds = time.perf_counter() - start
    del output
    return seconds


def ours(training: Training) -> Run:
    step = training.step()
    return lambda steps: [seconds_of(step) for _ in range(steps)]


def fits(trial: Trial, data: tuple[Any, Any], compiled: keras.Model) -> Run:
    """Return the run of a second net with the same weights, whose `fit` calls a train function that is timed."""
    model = setup.build(trial)
    model.set_weights(compiled.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras_names.make_optimizer(trial.optimizer), loss=loss, jit_compile=False)
    model.make_train_function()
    own = model.train_function
    seconds: list[float] = []

    def timed(iterator: Any) -> Any:
        output = None

        def call() -> None:
            nonlocal output
            output = own(iterator)

        seconds.append(seconds_of(call))
        return output

    model.train_function = timed
    dataset = tf.data.Dataset.from_tensors(data).cache().repeat().prefetch(tf.data.AUTOTUNE)

    def run(steps: int) -> list[float]:
        seconds.clear()
        model.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0)
        return list(seconds)

    return run


def compare(name: str, batch: int, steps: int, rounds: int, optimizer: str) -> None:
    trial = Trial(model=name, batch=batch, passes=("train_step",), optimizer={"name": optimizer})
    keras.backend.clear_session()
    model = setup.build(trial)
    fed = inputs.feed(trial, layers.trace(model, batch))
    training = Training(trial, model, fed.tensors, None, layers.trace(model, batch, training=True))
    runs = {"ours": ours(training), "fit": fits(trial, training.data, model)}
    for run in runs.values():
        run(3)
    measured: dict[str, list[list[float]]] = {kind: [] for kind in runs}
    for index in range(rounds):
        for kind in sorted(runs, reverse=bool(index % 2)):
            measured[kind].append(runs[kind](steps))
    medians = {kind: statistics.median(itertools.chain(*each)) for kind, each in measured.items()}
    ratio, low, high = ratio_interval(measured["fit"], measured["ours"])
    print(f"{name:16}{medians['ours']:12.4f}{medians['fit']:12.4f}{ratio:9.3f}  ({low:.3f}, {high:.3f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet_v2_50"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--optimizer", default="sgd", choices=sorted(keras_names.optimizers()))
    chosen = parser.parse_args()
    print(f"batch {chosen.batch}, {chosen.optimizer}, {chosen.rounds} rounds of {chosen.steps} steps, median seconds")
    print(f"{'':16}{'train_step':>12}{'fit':>12}{'ratio':>9}  (95% interval)")
    for name in chosen.models:
        compare(name, chosen.batch, chosen.steps, chosen.rounds, chosen.optimizer)


if __name__ == "__main__":
    main()

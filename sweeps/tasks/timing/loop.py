"""The timed loop: warm-up, steps and the rule that ends them.

This module does not know TensorFlow: the step, the device's synchronisation and the clock are arguments. During the
timed steps the garbage collector is off, and nothing is tracked, sent or copied; `progress` is called between steps,
off the clock.
"""

from __future__ import annotations

import bisect
import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tracking.analysis.doubts import FEWEST_STEPS, SHORTEST_S, step_reasons
from tracking.analysis.stats.steps import median_interval_sorted, noise_stopped_shrinking, settled
from tracking.schema.protocols import Adaptive, Classic, Protocol

Progress = Callable[[int, float], None]
_LONGER = 1.5
"""After a look that gave reasons to doubt the steps, the next look comes after this many times as many."""


@dataclass(frozen=True)
class Timed:
    """Seconds of the first call, of each warm-up step and of each timed step, and why timing ended."""

    first_call_s: float
    warmup_s: tuple[float, ...]
    step_s: tuple[float, ...]
    stopped: str


def _ignore(index: int, seconds: float) -> None:
    del index, seconds


def measure(
    step: Callable[[], Any],
    protocol: Protocol,
    *,
    sync: Callable[[], None],
    first: Callable[[], Any] | None = None,
    after_first: Callable[[Any], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    before_steps: Callable[[], None] = lambda: None,
    progress: Progress = _ignore,
) -> Timed:
    """Time `step` by `protocol`. `before_steps` is called between the warm-up and the first timed step.

    `first`, if given, replaces the first call of `step` and must do the same; `after_first` gets its result, off the
    clock. A step ends when `sync` returns, when an asynchronous device has done its work; its output is freed off the
    clock.
    """

    def timed(call: Callable[[], Any] = step, look: Callable[[Any], None] | None = None) -> float:
        sync()
        start = clock()
        output = call()
        sync()
        seconds = clock() - start
        if look is not None:
            look(output)
        del output
        return seconds

    first_call_s = timed(first or step, after_first)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        warm_up, time_steps = _RULES[type(protocol)]
        warmup = warm_up(timed, protocol)
        before_steps()
        samples, stopped = time_steps(timed, protocol, progress)
    finally:
        if collecting:
            gc.enable()
    return Timed(first_call_s, tuple(warmup), tuple(samples), stopped)


def _burn_in(timed: Callable[[], float], protocol: Classic) -> list[float]:
    return [timed() for _ in range(protocol.burn_in)]


def _fixed(timed: Callable[[], float], protocol: Classic, progress: Progress) -> tuple[list[float], str]:
    samples = []
    for index in range(protocol.steps):
        samples.append(timed())
        progress(index, samples[-1])
    return samples, "steps"


def _settle(timed: Callable[[], float], protocol: Adaptive) -> list[float]:
    samples: list[float] = []
    while not settled(samples) and sum(samples) < protocol.max_warmup_seconds:
        samples.append(timed())
    return samples


def _until_known(timed: Callable[[], float], protocol: Adaptive, progress: Progress) -> tuple[list[float], str]:
    samples: list[float] = []
    ordered: list[float] = []
    widths: list[float] = []
    spent, look_at = 0.0, protocol.min_steps
    shortest = min(SHORTEST_S, protocol.max_seconds)
    while True:
        samples.append(timed())
        bisect.insort(ordered, samples[-1])
        spent += samples[-1]
        progress(len(samples) - 1, samples[-1])
        count = len(samples)
        low, high = median_interval_sorted(ordered)
        widths.append((high - low) / 2 / ordered[count // 2])
        # A disturbance of so short a span would go unnoticed, and fewer steps have no such interval.
        if count >= max(look_at, FEWEST_STEPS) and spent >= shortest:
            known = widths[-1] <= protocol.target
            if known or (spent >= protocol.max_seconds / 10 and noise_stopped_shrinking(widths)):
                if not any(step_reasons(samples)):
                    return samples, "target" if known else "noise"
                # A passing trend or wave looks like the net's own: more steps tell them apart.
                look_at = math.ceil(_LONGER * count)
        if count >= protocol.min_steps and spent >= protocol.max_seconds:
            return samples, "max_seconds"
        if count >= max(protocol.min_steps, protocol.max_steps):
            return samples, "max_steps"


_RULES: Mapping[type[Protocol], tuple[Callable[..., list[float]], Callable[..., tuple[list[float], str]]]] = {
    Classic: (_burn_in, _fixed),
    Adaptive: (_settle, _until_known),
}
"""By protocol, what makes its warm-up steps, and what makes its timed steps and says why they ended."""

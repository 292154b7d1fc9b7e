"""The trials of a grid, each once, in the order in which they run."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from tracking.record import Trial


def unique(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials in order of first appearance, those that measure the same thing once."""
    return list({trial.trial_id: trial for trial in trials}.values())


def ordered(trials: Sequence[Trial], order: str | None, seed: int) -> list[Trial]:
    """Return the trials as they came (`grid`) or by repeat (`interleaved`, the default where there are repeats).

    Interleaved, every trial has its first repeat before any has its second, each round in a random order by `seed`, so
    that a slow minute of the machine does not affect one configuration only.
    """
    rounds = sorted({trial.repeat for trial in trials})
    if order == "grid" or (order is None and len(rounds) < 2):
        return list(trials)
    generator = random.Random(seed)
    interleaved = []
    for repeat in rounds:
        round_ = [trial for trial in trials if trial.repeat == repeat]
        generator.shuffle(round_)
        interleaved += round_
    return interleaved

"""From a grid to the trials that will run: unique, checked against the machine, in order."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from sweeps.devices import Node
from tracking.record import Trial


def unique(trials: Iterable[Trial]) -> list[Trial]:
    """The trials in order of first appearance; two that ask for the same number are one."""
    return list({trial.trial_id: trial for trial in trials}.values())


def ordered(trials: Sequence[Trial], order: str | None, seed: int) -> list[Trial]:
    """The trials as they came (`grid`) or by repeat (`interleaved`, the default where there are repeats).

    Interleaved, every trial has had its first repeat before any has its second, each round in a random order by `seed`,
    so that a slow minute of the machine does not fall on one configuration.
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


def problems(trials: Iterable[Trial], nodes: Sequence[Node]) -> list[str]:
    """What stands in the way of running the trials on these nodes, in words."""
    found = []
    for trial in trials:
        lacking = [node.misses(trial.device) for node in nodes]
        if all(lacking):
            found += sorted(lacking, key=len)[0]
        if trial.weights is not None and not Path(trial.weights).is_file():
            found.append(f"model.weights={trial.weights}: expected a file. Received: a path where there is none.")
    return list(dict.fromkeys(found))


def unwritable(folder: Path) -> list[str]:
    """Why results cannot be written into `folder`; nothing if they can. Creates the folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return [f"expected a results folder that can be written. Received: {folder} ({error.strerror})."]
    return []

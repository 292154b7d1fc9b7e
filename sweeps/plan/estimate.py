"""How long a plan will take, estimated from earlier results here, else from operations and a measured rate."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sweeps.machine import cgroup, cores
from sweeps.machine.node import Node
from sweeps.machine.node_kinds import NodeKinds
from sweeps.plan.net_sizes import Net
from sweeps.plan.preflight import Key, key
from tracking.axes import variant_of
from tracking.folder.folders import sweep_folders
from tracking.folder.journal import Journal, JournalError
from tracking.record import Pass, Result, Trial
from tracking.schema.axis import Label

_PROCESS_S = 0.3
"""Seconds of a trial outside its passes."""
_SHARE = 0.4
"""Share of a matrix product's rate that a net is assumed to reach where nothing is known about it."""
_MATRIX = 1024


@dataclass(frozen=True)
class Estimate:
    """Seconds that one trial will take."""

    likely_s: float
    most_s: float
    """By the protocol's and the trial's own limits; infinite where there is none."""


_WHERE = ("hostname", "cpu_quota")
"""Facts that two hosts must share for a time on one to hold on the other."""


def earlier_results(cwd: Path, facts: Mapping[str, Any]) -> list[Result]:
    """The ok results of all sweeps under `cwd` measured on the machine with these facts, within the same quota."""
    results: list[Result] = []
    for folder in sweep_folders(cwd):
        try:
            results += Journal(folder).read()
        except JournalError:
            continue  # an unreadable old sweep is no reason not to plan a new one
    return [result for result in results if result.ok and all(result.host.get(key) == facts.get(key) for key in _WHERE)]


class Estimator:
    """Estimates by trial, from what was measured before and what is known of the nets."""

    def __init__(self, nets: Mapping[Key, Net], earlier: Iterable[Result]) -> None:
        self._nets = nets
        self._took: dict[str, float] = {}
        rates: dict[tuple[Pass, tuple[Label, ...]], list[float]] = defaultdict(list)
        for result in earlier:
            self._took[result.trial_id] = result.wall_s
            for name, measured in result.passes.items():
                if measured.gflops_per_s:
                    rates[name, variant_of(result.trial, name)].append(measured.gflops_per_s * 1e9)
        self._rates = {alike: statistics.median(values) for alike, values in rates.items()}
        self._assumed: float | None = None

    def __call__(self, trial: Trial) -> Estimate | None:
        """None for a trial about which nothing is known, e.g. on a GPU without earlier results."""
        most = self._most_s(trial)
        if trial.trial_id in self._took:
            return Estimate(self._took[trial.trial_id], max(most, self._took[trial.trial_id]))
        steps = [self._step_s(name, trial) for name in trial.passes]
        if trial.task != "benchmark" or None in steps:
            return None
        likely = _PROCESS_S + sum(trial.protocol.likely_s(step) for step in steps if step is not None)
        return Estimate(min(likely, trial.timeout_s or likely), max(most, likely))

    def _step_s(self, name: Pass, trial: Trial) -> float | None:
        net = self._nets.get(key(trial))
        if net is None:
            return None
        rate = self._rates.get((name, variant_of(trial, name)))
        if rate is None and trial.device.kind == "cpu":
            self._assumed = self._assumed or _SHARE * matrix_rate()
            rate = self._assumed
        flops = net.forward_flops if name == "forward" else net.training_flops
        return None if rate is None or flops is None else flops * trial.batch / rate

    def _most_s(self, trial: Trial) -> float:
        if trial.timeout_s is not None:
            return trial.timeout_s
        most = trial.protocol.most_s
        return 0.0 if most is None else _PROCESS_S + most * len(trial.passes)


def total_s(estimates: Sequence[tuple[Trial, float]], nodes: Sequence[Node], at_once: int | None = None) -> float:
    """Seconds for all trials on the nodes: `at_once` of them at a time or, if None, as many as fit the nodes."""
    kinds = NodeKinds(nodes)
    shares = [seconds / (at_once or kinds.at_once(trial.device) or 1) for trial, seconds in estimates]
    return max([sum(shares), *(seconds for _, seconds in estimates)])


def matrix_rate() -> float:
    """Operations per second of a float32 matrix product on the cores that a trial may have: the best of a few."""
    left = np.ones((_MATRIX, _MATRIX), dtype=np.float32)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        left @ left
        seconds.append(time.perf_counter() - start)
    # The product runs on all cores there are, and too briefly for a quota to stop it.
    share = min(cgroup.cpu_quota() or math.inf, len(cores.available())) / len(os.sched_getaffinity(0))
    return share * float(2 * _MATRIX**3 / min(seconds))

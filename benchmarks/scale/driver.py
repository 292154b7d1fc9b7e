"""What limits a sweep of very many trials on very many nodes: the driver's time per trial, measured, and a simulation.

Runs the real plan, checks, calibration, placing, verdicts, journal, CSV and terminal on a Ray without processes
(`fake_ray.py`), with four devices, while other jobs come and go on the nodes. Then it measures the remaining parts one
by one (`parts.py`: compose, Ray, MLflow, plots, report) and simulates a driver that does all of it, for several trial
lengths and numbers of nodes (`simulation.py`).

usage: python benchmarks/scale/driver.py [--trials 100000] [--nodes 1000] [--cores 64] [--driver]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from omegaconf import OmegaConf

from benchmarks.scale.fake_ray import FakeGate, FakeRay
from benchmarks.scale.parts import compose_s, end_s, kept_bytes, mlflow_s, ray_s
from benchmarks.scale.samples import result_of, sweep_of, trials_of
from benchmarks.scale.simulation import table
from sweeps.cluster import Site
from sweeps.clusters.existing.head_state import NodeState, held
from sweeps.dispatch import loop
from sweeps.dispatch.context import Context
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.dispatch.loop import Results
from sweeps.machine.node import Node
from sweeps.plan.checks import problems
from sweeps.plan.order import ordered, unique
from sweeps.plan.preflight import Preflight
from sweeps.process.interrupts import Interrupts
from sweeps.recorder import Recorder
from sweeps.runner import Runner
from sweeps.screen.progress import Progress
from sweeps.screen.terminal import Terminal
from sweeps.typed.keys import SETTINGS
from sweeps.worker.on_node import Place
from tracking.record import Result, Trial
from tracking.sinks.csv_table import CsvSink
from tracking.sinks.outbox import Outbox
from tracking.text.screen import Screen

WINDOW = 1000
"""How many results the first and the last rates are averaged over."""


class Timed(Progress):
    """Progress that records when trials start and when their results have been written."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(Screen(highlight=False), terminal.say, terminal.warn)
        self.started_at: list[float] = []
        self.finished_at: list[tuple[float, int]] = []

    def started(self, trial: Trial) -> None:
        super().started(trial)
        self.started_at.append(time.perf_counter())

    def finished(self, result: Result) -> None:
        super().finished(result)
        self.finished_at.append((time.perf_counter(), len(self.started_at)))


class SharedFleet(Fleet):
    """Nodes of a shared cluster: other jobs hold a core on every tenth node, on different nodes at every look."""

    look_every_s = 2.0

    def __init__(self, nodes: Sequence[Node]) -> None:
        super().__init__(Slot(node, lambda: "", local=False) for node in nodes)
        for slot in self.slots:
            slot.gate = FakeGate()
        self._looks = 0

    def look(self) -> None:
        self._looks += 1
        for index, slot in enumerate(self.slots):
            used = slot.used()
            others = 1 if (index + self._looks) % 10 == 0 else 0
            name, cpus = slot.node.name, float(slot.node.cpus)
            state = NodeState(
                node_id=name,
                address=name,
                hostname=name,
                offers={"CPU": cpus},
                free={"CPU": max(0.0, cpus - used["CPU"] - others)},
                labels={},
                leaving=False,
            )
            slot.share(held(state, used), leaving=False)


class SharedSite(Site):
    """The cluster as the place where the trials run."""

    def __init__(self, fleet: SharedFleet) -> None:
        self._fleet = fleet

    def run(self, trials: Sequence[Trial], context: Context) -> Results:
        return loop.on_ray(trials, replace(context, fleet=self._fleet))


class Driver(NamedTuple):
    """The driver's time for one sweep, in seconds."""

    checked_s: float
    """For ordering, checking and writing the plan."""
    first_start_s: float
    """Until the first trial was handed out, including the calibrations before it."""
    each_s: float
    """Per result, starting its trial included."""
    first_s: float
    """Per result, over the first thousand after all nodes were busy."""
    last_s: float
    """Per result, over the last thousand that left something to start."""


def measure(trials: list[Trial], nodes: int, cores: int, folder: Path) -> Driver:
    """Run the sweep on a Ray without processes: everything the driver does between the grid and the last result."""
    offers = [Node(cpus=cores, name=f"n{i}", node_id=f"n{i}", memory_mb=2.0**18) for i in range(nodes)]

    def answer(trial: Trial, place: Place) -> Result:
        result = result_of(trial)
        return replace(result, host={**result.host, "node_id": place.node.node_id})

    began = time.perf_counter()
    in_order = ordered(unique(trials), None, 0)
    if wrong := problems(in_order, offers):
        raise RuntimeError(wrong)
    Preflight().warnings(in_order, offers)
    sweep = sweep_of(in_order, str(folder))
    outbox = Outbox([CsvSink()])
    recorder = Recorder(sweep, outbox)
    outbox.open(sweep)
    terminal = Terminal()
    terminal.progress = timed = Timed(terminal)
    terminal.plan(sweep, in_order, offers)
    checked = time.perf_counter()
    cfg = OmegaConf.create({key: setting.default for key, setting in SETTINGS.items()})
    fleet = SharedFleet(offers)
    fleet.inbox = FakeRay(answer)
    runner = Runner(terminal, Interrupts())
    with fleet.inbox.installed():
        runner.run(in_order, cfg, recorder, site=SharedSite(fleet), node=offers[0], server=lambda: "")
    recorder.journal.close()
    ends = timed.finished_at
    filled = next(index for index, (_, starts) in enumerate(ends) if starts > index + 1)
    replaced = [index for index, (_, starts) in enumerate(ends) if starts < len(in_order)]
    window = min(WINDOW, len(replaced) // 3)
    first, last = filled, replaced[-1] - window
    return Driver(
        checked - began,
        timed.started_at[0] - began,
        (ends[-1][0] - timed.started_at[0]) / len(ends),
        (ends[first + window][0] - ends[first][0]) / window,
        (ends[last + window][0] - ends[last][0]) / window,
    )


def print_driver(options: argparse.Namespace, trials: list[Trial], folder: Path) -> Driver:
    """Measure the driver with plain output and with a live display, print both, and return the former."""
    print(f"the driver, {options.trials:,} trials, {options.nodes:,} nodes x {options.cores} cores, 4 devices")
    runs: dict[str, Driver] = {}
    for way in ("no terminal", "terminal"):
        (folder / way).mkdir()
        with (folder / f"{way}.txt").open("w") as output, contextlib.redirect_stdout(output):
            if way == "terminal":
                os.environ["FORCE_COLOR"] = "1"
            runs[way] = measure(trials, options.nodes, options.cores, folder / way)
            os.environ.pop("FORCE_COLOR", None)
    for way, driver in runs.items():
        print(
            f"{way:12} checks and plan {driver.checked_s:6.1f} s, first start after {driver.first_start_s:6.1f} s;",
            end="",
        )
        print(f" ms per result {1000 * driver.each_s:.2f}, first thousand {1000 * driver.first_s:.2f},", end="")
        print(f" last {1000 * driver.last_s:.2f} ({driver.last_s / driver.first_s:.2f} of the first)")
    return runs["no terminal"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=64, help="cores of each node")
    parser.add_argument("--driver", action="store_true", help="measure only the driver's own work")
    options = parser.parse_args()
    trials = trials_of(options.trials)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        driver = print_driver(options, trials, folder)
        if options.driver:
            return
        before = {"compose": compose_s(), "plan and checks": driver.checked_s / options.trials}
        plan_bytes = (folder / "no terminal" / "plan.json").stat().st_size / options.trials
        during = {"the driver's own work": driver.each_s, "Ray: hand out, wait, fetch": ray_s(options.nodes)}
        results = [result_of(trial) for trial in trials[:2000]]
        during["MLflow on SQLite"] = mlflow_s(results, folder)
        after = end_s(results, folder)
    journal_bytes = float(len(json.dumps(results[0].to_json())))
    print(f"\nmilliseconds of the driver per trial ({options.trials:,} trials, {options.nodes:,} nodes)")
    for when, parts in (("before", before), ("during", during), ("after", after)):
        for part, seconds in parts.items():
            print(f"{when:8}{part:32}{1000 * seconds:9.2f}{seconds * options.trials / 60:9.1f} min in total")
    sizes = {"plan.json": plan_bytes, "journal": journal_bytes, "memory": kept_bytes(results[:500])}
    for what, size in sizes.items():
        print(f"{what:10}{size / 1024:8.1f} KiB per trial{size * options.trials / 2**20:10.0f} MiB in total")
    all_s = sum(during.values())
    print("\nsimulated: hours, and the share of the nodes' time spent in trials")
    print(table(options.trials, {"all sinks": all_s, "without MLflow": all_s - during["MLflow on SQLite"]}))


if __name__ == "__main__":
    main()

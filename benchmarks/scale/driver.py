"""What bounds a sweep of very many trials on very many nodes: the driver's own seconds, measured, and a simulation.

Runs the real plan, checks, calibration, choice of nodes, judging, journal, CSV and terminal on a Ray without processes
(`fake_ray.py`), with four devices, while other jobs come and go on the nodes; then measures by themselves what that
leaves out (compose, Ray, MLflow, plots and report), and simulates a driver that does all of it, for trials of several
lengths on several numbers of nodes.

usage: python benchmarks/scale/driver.py [--trials 100000] [--nodes 1000] [--cores 64] [--driver]
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import random
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from benchmarks.scale.fake_ray import FakeGate, FakeRay
from sweeps.clusters.existing.head_state import NodeState, held
from sweeps.clusters.existing.nodes import RayFleet
from sweeps.dispatch.fleet import Fleet, Slot
from sweeps.dispatch.task_inbox import Inbox
from sweeps.machine.node import Node
from sweeps.plan.checks import problems
from sweeps.plan.order import ordered, unique
from sweeps.plan.preflight import Preflight
from sweeps.process.interrupts import Interrupts
from sweeps.recorder import Recorder
from sweeps.request import options, schema
from sweeps.request.compose import Composer
from sweeps.screen.progress import Progress
from sweeps.screen.terminal import Terminal
from sweeps.session import Session
from sweeps.typed.arguments import Arguments
from sweeps.worker.forkserver import ROOT, LastingServer
from sweeps.worker.on_node import Place
from tracking.plots import sweep_plots
from tracking.record import Classic, Device, Layer, Measurement, Result, Sweep, Trial
from tracking.report import html_page
from tracking.sinks.csv_table import CsvSink
from tracking.sinks.mlflow.sink import MlflowSink
from tracking.sinks.outbox import Outbox
from tracking.text.screen import Screen

DEVICES = (Device(cpus=1), Device(cpus=2), Device(cpus=4), Device(cpus=8))
WINDOW = 1000
"""Results that the first and the last are compared by."""
LENGTHS_S = (1.0, 10.0, 60.0)
NODES = (1, 10, 100, 1000)
SPREAD = 0.3
"""Relative standard deviation of the simulated trials' lengths."""


def trials_of(count: int) -> list[Trial]:
    """Trials of as many batches as it takes on each device in turn, each with a device of its own as from a command."""
    width = len(DEVICES)
    return [
        Trial(model="tiny", batch=1 + index // width, protocol=Classic(), device=replace(DEVICES[index % width]))
        for index in range(count)
    ]


def result_of(trial: Trial) -> Result:
    """A result as a trial of `protocol=classic` leaves it: 100 samples a pass, 20 layers."""
    measured = Measurement(first_call_s=0.5, warmup_s=(0.02,) * 10, step_s=(0.0123456,) * 100, stopped="steps")
    layers = tuple(Layer(name=f"conv_{i}", kind="Conv2D", output_shape=(trial.batch, 56, 56, 64)) for i in range(20))
    host = {"hostname": "n1", "cpu": "a processor", "cores": [0], "tensorflow": "2.21"}
    passes = dict.fromkeys(trial.passes, measured)
    return Result(trial=trial, sweep_id="s", status="ok", wall_s=1.0, host=host, passes=passes, layers=layers)


def each(what: Callable[[], object], count: int) -> float:
    """Seconds a call, over `count` calls."""
    began = time.perf_counter()
    for _ in range(count):
        what()
    return (time.perf_counter() - began) / count


def compose_s(count: int = 300) -> float:
    GlobalHydra.instance().clear()
    options.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["model=tiny"], run_mode=RunMode.MULTIRUN)
        composer = Composer(loader, master)
        composer.compose(["model=tiny", "batch=1"])
        batches = iter(range(1, count + 1))
        return each(lambda: schema.read(composer.compose(["model=tiny", f"batch={next(batches)}"])), count)


class Timed(Progress):
    """Notes when trials start and when their results have been written."""

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
    """Nodes of a cluster of which other jobs hold a core on every tenth node, on others at every look."""

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


class Driver(NamedTuple):
    """Seconds of the driver."""

    checked_s: float
    """To order, check and write the plan."""
    first_start_s: float
    """Until the first trial was handed out, calibrations before it included."""
    each_s: float
    """A result, start included."""
    first_s: float
    """A result, over the first thousand after the nodes had been filled."""
    last_s: float
    """A result, over the last thousand after each of which there was something left to start."""


def driver_s(trials: list[Trial], nodes: int, cores: int, folder: Path) -> Driver:
    """Run the sweep on a Ray without processes: all that the driver does between the grid and the last result."""
    offers = [Node(cpus=cores, name=f"n{i}", node_id=f"n{i}", memory_mb=2.0**18) for i in range(nodes)]

    def answer(trial: Trial, place: Place) -> Result:
        result = result_of(trial)
        return replace(result, host={**result.host, "node_id": place.node.node_id})

    began = time.perf_counter()
    in_order = ordered(unique(trials), None, 0)
    if found := problems(in_order, offers):
        raise RuntimeError(found)
    Preflight().warnings(in_order, offers)
    sweep = Sweep(sweep_id="s", folder=str(folder), command="c", created_at=0, trials=tuple(in_order))
    outbox = Outbox([CsvSink()])
    recorder = Recorder(sweep, outbox)
    outbox.open(sweep)
    terminal = Terminal()
    terminal.progress = timed = Timed(terminal)
    terminal.plan(sweep, in_order, offers)
    checked = time.perf_counter()
    cfg = OmegaConf.create(
        {"calibrate": True, "retries": 1, "oom_ceiling": True, "fail_fast": None, "cluster": {"name": "ray"}}
    )
    session = Session(terminal, Interrupts(), cast("LastingServer", None), Arguments(program="scale.py", words=()))
    fleet = SharedFleet(offers)
    fleet.inbox = FakeRay(answer)
    session._fleet = cast("RayFleet", fleet)
    server = SimpleNamespace(address=lambda: "")
    session._server = cast("LastingServer", server)
    with fleet.inbox.installed():
        session._dispatch(in_order, cfg, offers, recorder)
    recorder.journal.close()
    ends = timed.finished_at
    filled = next(index for index, (_, starts) in enumerate(ends) if starts > index + 1)
    replaced = [index for index, (_, starts) in enumerate(ends) if starts < len(unique)]
    window = min(WINDOW, len(replaced) // 3)
    first, last = filled, replaced[-1] - window
    return Driver(
        checked - began,
        timed.started_at[0] - began,
        (ends[-1][0] - timed.started_at[0]) / len(ends),
        (ends[first + window][0] - ends[first][0]) / window,
        (ends[last + window][0] - ends[last][0]) / window,
    )


def ray_s(nodes: int, count: int = 300) -> float:
    """Seconds to hand out one task and wait for it, while as many others are out as there are nodes."""
    import logging

    import ray

    ray.init(num_cpus=2, logging_level=logging.ERROR, include_dashboard=False, log_to_driver=False)
    task = ray.remote(lambda value: value)
    inbox = Inbox()
    out = [task.options(resources={"never": 1}).remote(None) for _ in range(nodes)]  # there is none: they wait
    for ref in out:
        inbox.expect(ref)
    payload = result_of(trials_of(1)[0])

    def one() -> None:
        future = inbox.expect(task.options(num_cpus=1).remote(payload))
        inbox.next(30)
        future.result()

    one()
    seconds = each(one, count)
    ray.shutdown()
    return seconds


def sinks_s(results: list[Result], folder: Path) -> dict[str, float]:
    sweep = Sweep(sweep_id="s", folder=str(folder), command="c", created_at=0, trials=tuple(r.trial for r in results))
    taken = {}
    few = results[:200]
    mlflow = MlflowSink(uri=f"sqlite:///{folder}/mlflow.db", experiment="scale")
    mlflow.open(sweep)
    taken["MLflow on SQLite"] = _over(few, mlflow.write)
    return taken


def end_s(results: list[Result], folder: Path) -> dict[str, float]:
    sweep = Sweep(sweep_id="s", folder=str(folder), command="c", created_at=0, trials=tuple(r.trial for r in results))
    began = time.perf_counter()
    sweep_plots.draw(sweep, results, folder)
    drawn = time.perf_counter()
    html_page.write(sweep, results, folder / "report.html")
    written = time.perf_counter()
    return {"plots": (drawn - began) / len(results), "report": (written - drawn) / len(results)}


def kept_bytes(results: list[Result]) -> float:
    """Memory that the driver keeps for each result until the sweep's end."""
    texts = [json.dumps(result.to_json()) for result in results]
    tracemalloc.start()
    kept = [Result.from_json(json.loads(text)) for text in texts]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / len(kept)


def _over(results: Iterable[Result], write: Callable[[Result], object]) -> float:
    began = time.perf_counter()
    count = sum(1 for result in results if write(result) is None)
    return (time.perf_counter() - began) / count


def simulate(trials: int, nodes: int, length_s: float, driver_s: float, seed: int = 0) -> tuple[float, float]:
    """Wall seconds, and the share of the nodes' time that is spent in trials.

    A trial ends at its node, waits for its turn at the driver, which needs `driver_s` to take it in and hand out the
    next one to that node.
    """
    generator = random.Random(seed)
    ends: list[float] = []
    free_at = busy_s = 0.0
    for handed_out in range(trials):
        if handed_out >= nodes:
            free_at = max(free_at, heapq.heappop(ends))
        free_at += driver_s
        length = max(0.0, generator.gauss(length_s, SPREAD * length_s))
        busy_s += length
        heapq.heappush(ends, free_at + length)
    wall_s = max(ends) + driver_s
    return wall_s, busy_s / (nodes * wall_s)


def print_driver(options: argparse.Namespace, trials: list[Trial], folder: Path) -> Driver:
    """Measure the driver with its output to a file and with a live display, and print both."""
    print(f"the driver, {options.trials:,} trials, {options.nodes:,} nodes x {options.cores} cores, 4 devices")
    runs: dict[str, Driver] = {}
    for way in ("no terminal", "terminal"):
        (folder / way).mkdir()
        with (folder / f"{way}.txt").open("w") as output, contextlib.redirect_stdout(output):
            if way == "terminal":
                os.environ["FORCE_COLOR"] = "1"
            runs[way] = driver_s(trials, options.nodes, options.cores, folder / way)
            os.environ.pop("FORCE_COLOR", None)
    for way, driver in runs.items():
        print(
            f"{way:12} checks and plan {driver.checked_s:6.1f} s, first start after {driver.first_start_s:6.1f} s;",
            end="",
        )
        print(f" ms a result {1000 * driver.each_s:.2f}, first thousand {1000 * driver.first_s:.2f},", end="")
        print(f" last {1000 * driver.last_s:.2f} ({driver.last_s / driver.first_s:.2f} of the first)")
    return runs["no terminal"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=64, help="of each node")
    parser.add_argument("--driver", action="store_true", help="only the driver's own work")
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
        during |= sinks_s(results, folder)
        after = end_s(results, folder)
    journal_bytes = float(len(json.dumps(results[0].to_json())))
    print(f"\nmilliseconds of the driver a trial ({options.trials:,} trials, {options.nodes:,} nodes)")
    for when, parts in (("before", before), ("during", during), ("after", after)):
        for part, seconds in parts.items():
            print(f"{when:8}{part:32}{1000 * seconds:9.2f}{seconds * options.trials / 60:9.1f} min in all")
    sizes = {"plan.json": plan_bytes, "journal": journal_bytes, "memory": kept_bytes(results[:500])}
    for what, size in sizes.items():
        print(f"{what:10}{size / 1024:8.1f} KiB a trial{size * options.trials / 2**20:10.0f} MiB in all")
    every = sum(during.values())
    ways = {"all sinks": every, "without MLflow": every - during["MLflow on SQLite"]}
    print("\nsimulated: hours, and the share of the nodes' time spent in trials")
    print(f"{'':16}{'trial':>8}" + "".join(f"{nodes:>12,} nodes" for nodes in NODES))
    for way, driver_s in ways.items():
        for length_s in LENGTHS_S:
            cells = [simulate(options.trials, nodes, length_s, driver_s) for nodes in NODES]
            print(f"{way:16}{length_s:6g} s" + "".join(f"{wall / 3600:11.2f} {share:6.0%}" for wall, share in cells))


if __name__ == "__main__":
    main()
